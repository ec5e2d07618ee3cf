"""Promises: creating, settling from outside, and timing out. The first end that comes is the one that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.errors import FailedPrecondition, NotFound
from flovyn.server.engine import events, history, keys, payloads, validation
from flovyn.server.store.keys import Target
from flovyn.server.store.promises import PromiseRow

if TYPE_CHECKING:
    from flovyn.server.engine.core import Caller, Core
    from flovyn.server.engine.events import Event
    from flovyn.server.store.runs import RunRow

__all__ = ["Promises", "create"]


class Promises:
    """What can be done with promises from outside their workflows."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def resolve(self, caller: Caller, promise_id: str, value: bytes) -> bool:
        """Give a promise its value and wake its workflow.

        Returns:
            Whether this call settled it; if another did so before, nothing happens.

        Raises:
            NotFound: There is no such promise in the caller's organisation.
            FailedPrecondition: Its workflow has ended without it.
            InvalidArgument: The value is not JSON.
        """
        checked = payloads.checked(value, "value")
        promise = self._find(caller, promise_id)
        return self._settle(promise, "RESOLVED", events.promise_resolved(promise.id, name=promise.name, value=checked))

    def reject(self, caller: Caller, promise_id: str, error: str) -> bool:
        """Give a promise an error instead of a value and wake its workflow.

        Returns:
            Whether this call settled it; if another did so before, nothing happens.

        Raises:
            NotFound: There is no such promise in the caller's organisation.
            FailedPrecondition: Its workflow has ended without it.
        """
        promise = self._find(caller, promise_id)
        return self._settle(promise, "REJECTED", events.promise_rejected(promise.id, name=promise.name, error=error))

    def of_key(self, caller: Caller, key: str) -> str:
        """The id of the promise that was created with an idempotency key, for as long as the key counts.

        Raises:
            NotFound: No promise of the caller's organisation has it.
        """
        target = self._core.store.keys.find(caller.org_id, key, self._core.clock())
        if target is None or target.of != "promise":
            raise NotFound(f"no promise has the key {validation.shown(key)}")
        return target.id

    def time_out(self, promise: PromiseRow) -> None:
        """End a promise whose deadline has come. Part of the caller's transaction."""
        self._tell_run(promise, "TIMEOUT", events.promise_timeout(promise.id, name=promise.name))

    def _settle(self, promise: PromiseRow, status: str, event: Event) -> bool:
        if promise.status == "CLOSED":
            raise FailedPrecondition(f"promise {promise.id} cannot be settled any more: its workflow has ended")
        if promise.status != "PENDING":
            return False
        with self._core.transaction():
            self._tell_run(promise, status, event)
        return True

    def _tell_run(self, promise: PromiseRow, status: str, event: Event) -> None:
        core = self._core
        promise.status = status
        core.store.promises.save(promise)
        run = core.store.runs.get(promise.run)
        history.append(core, run, [event], external=True)
        history.wake(core, run)
        core.store.runs.save(run)

    def _find(self, caller: Caller, promise_id: str) -> PromiseRow:
        promise = self._core.store.promises.find(validation.given(promise_id, "promise_id"))
        if promise is None or promise.org_id != caller.org_id:
            raise NotFound(f"promise {validation.shown(promise_id)} is unknown")
        return promise


def create(core: Core, run: RunRow, name: str, *, deadline_at: int | None, key: str | None, key_ms: int) -> str:
    """Make sure that a run has a promise of that name. Part of the caller's transaction.

    Returns:
        The promise's id, the same one for the same name.

    Raises:
        AlreadyExists: The key stands for something else.
    """
    promise = core.store.promises.named(run.n, name)
    if promise is None:
        promise = PromiseRow(
            n=0,
            id=core.new_id(),
            org_id=run.org_id,
            run=run.n,
            name=name,
            created_at=core.clock(),
            deadline_at=deadline_at,
            status="PENDING",
        )
        core.store.promises.insert(promise)
        if deadline_at is not None:
            core.due(deadline_at)
    if key is not None:
        target = core.store.keys.find(run.org_id, key, core.clock())
        if target is None:
            core.store.keys.put(run.org_id, key, Target("promise", promise.id), core.clock() + key_ms)
        elif target != Target("promise", promise.id):
            raise keys.taken(key, target)
    return promise.id
