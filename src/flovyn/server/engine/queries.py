"""Queries, answered from what a workflow has recorded: its state. Nothing of its program runs for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.workflows import Workflows

__all__ = ["Queries"]

_WHOLE: Final = frozenset({"state", "__state"})


class _Entry(msgspec.Struct):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"null")


_decode: Final = msgspec.json.Decoder(_Entry).decode


class Queries:
    """What can be asked about workflows."""

    def __init__(self, core: Core, workflows: Workflows) -> None:
        self._core = core
        self._workflows = workflows

    def state(self, caller: Caller, run_id: str) -> dict[str, msgspec.Raw]:
        """The state that a workflow has recorded, in the order in which its keys were first set.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        run = self._workflows.find(caller, run_id)
        state: dict[str, msgspec.Raw] = {}
        for event in self._core.store.runs.events(run.n, "STATE_SET", "STATE_CLEARED"):
            entry = _decode(event.data)
            if event.type == "STATE_SET":
                state[entry.key] = entry.value
            else:
                state.pop(entry.key, None)
        return state

    def answer(self, caller: Caller, run_id: str, name: str) -> bytes | None:
        """The value of the state key of that name as JSON, or with the name "state" the whole state.

        Returns:
            None if there is no such key.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        state = self.state(caller, run_id)
        if name in state:
            return bytes(state[name])
        return msgspec.json.encode(state) if name in _WHOLE else None
