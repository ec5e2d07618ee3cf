"""Waiting for results where the server is at hand: without asking again and again, and letting time pass meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from flovyn.client.ending import find_ending
from flovyn.client.watch import Watch
from flovyn.errors import ConnectionLost, ServerUnavailable
from flovyn.wire.payloads import decoded

if TYPE_CHECKING:
    from flovyn.serde.chain import CodecChain
    from flovyn.server.shell import Shell
    from flovyn.testing.environments.clock import VirtualClock
    from flovyn.wire.messages.flovyn import v1 as pb
    from flovyn.wire.transport import Transport

__all__ = ["VirtualWatch"]

_PAUSE: Final = 0.005


class VirtualWatch(Watch):
    """Looks at a history again when the server has written something, and lets time pass until it has ended."""

    __slots__ = ("_clock", "_shell")

    def __init__(self, transport: Transport, codecs: CodecChain, *, shell: Shell, clock: VirtualClock) -> None:
        super().__init__(transport, codecs)
        self._shell = shell
        self._clock = clock

    async def ending(self, workflow_id: str) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow."""
        with self._clock.passing():
            while True:
                written = self._shell.written  # from before the look
                try:
                    ending = find_ending((await self._read(workflow_id)).events)
                except (ServerUnavailable, ConnectionLost):
                    await anyio.sleep(_PAUSE)
                    continue
                if ending is not None:
                    return await decoded(ending, self._codecs)
                await written.wait()
