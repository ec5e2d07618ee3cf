"""Waiting for workflows where the server is at hand: without asking again and again, while time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flovyn.client.pauses import Pauses
from flovyn.client.watch import Watch

if TYPE_CHECKING:
    from flovyn.client.calls import Calls
    from flovyn.serde.chain import CodecChain
    from flovyn.server.shell import Shell
    from flovyn.testing.environments.clock import VirtualClock
    from flovyn.wire.messages.flovyn import v1 as pb

__all__ = ["VirtualWatch"]


class VirtualWatch(Watch):
    """Looks at a history again when the server has written something, and lets time pass while one waits for it."""

    __slots__ = ("_clock", "_shell")

    def __init__(self, calls: Calls, codecs: CodecChain, *, shell: Shell, clock: VirtualClock) -> None:
        super().__init__(calls, codecs)
        self._shell = shell
        self._clock = clock

    async def ending(self, workflow_id: str, *, after: int = 0) -> pb.WorkflowEvent:
        """Wait for the event that ends a workflow."""
        with self._clock.passing():  # also between two looks
            return await super().ending(workflow_id, after=after)

    def pauses(self) -> Pauses:
        """The pauses of one who waits for something on the server."""
        return _VirtualPauses(self._shell, self._clock)


class _VirtualPauses(Pauses):
    """Last until the server has written something, and let time pass."""

    __slots__ = ("_clock", "_shell", "_written")

    def __init__(self, shell: Shell, clock: VirtualClock) -> None:
        super().__init__()
        self._shell = shell
        self._clock = clock
        self._written = shell.written

    def asks(self) -> None:
        """The server is about to be asked."""
        self._written = self._shell.written  # from before the look

    def answered(self, size: int) -> None:
        """The server has answered."""

    async def wait(self) -> None:
        """Pause before the next question."""
        with self._clock.passing():
            await self._written.wait()
