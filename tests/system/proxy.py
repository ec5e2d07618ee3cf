"""A line between a client and a server that the test has in its hands: it can be cut, stalled, or left half open."""

from __future__ import annotations

import random
from contextlib import suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus

__all__ = ["Proxy"]

_BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Proxy:
    """Passes bytes on, both ways.

    Args:
        port: Where the server listens on this machine.
        source: Decides how much of what is under way gets through when a connection is cut.

    Attributes:
        url: Where the proxy listens.
        accepted: How many connections there have been.
    """

    def __init__(self, port: int, source: random.Random) -> None:
        self._port = port
        self._source = source
        self._lines: list[_Line] = []
        self.url = ""
        self.accepted = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        task_status.started()
        async with listener:
            await listener.serve(self._serve)

    @property
    def lines(self) -> list[_Line]:
        """The connections that pass bytes on."""
        return [line for line in self._lines if not line.is_dead]

    async def _serve(self, near: SocketStream) -> None:
        self.accepted += 1
        async with near:
            try:
                far = await anyio.connect_tcp("127.0.0.1", self._port)
            except OSError:
                return
            async with far:
                line = _Line(near, far, self._source)
                self._lines.append(line)
                try:
                    await line.run()
                finally:
                    self._lines.remove(line)


class _Line:
    """One connection."""

    def __init__(self, near: SocketStream, far: SocketStream, source: random.Random) -> None:
        self._ends = near, far
        self._source = source
        self._scope = anyio.CancelScope()
        self._flows = anyio.Event()
        self._flows.set()
        self._cut = False
        self.is_dead = False

    async def run(self) -> None:
        near, far = self._ends
        with self._scope:
            async with anyio.create_task_group() as pumps:
                pumps.start_soon(self._pump, near, far)
                pumps.start_soon(self._pump, far, near)

    def cut(self) -> None:
        """Close both ends with what comes next, of which a part gets through, perhaps half a frame."""
        self._cut = self.is_dead = True
        self._flows.set()

    def stall(self) -> None:
        """Pass nothing on, until `go_on`."""
        self._flows = anyio.Event()

    def go_on(self) -> None:
        self._flows.set()

    def half_open(self) -> None:
        """Pass nothing on any more, and never say so."""
        self.is_dead = True
        self._flows = anyio.Event()

    async def _pump(self, source: SocketStream, sink: SocketStream) -> None:
        with suppress(*_BROKEN):
            while True:
                data = await source.receive()
                await self._flows.wait()
                if self._cut:
                    await sink.send(data[: self._source.randrange(len(data) + 1)])
                    break
                await sink.send(data)
        if not self.is_dead or self._cut:
            self._scope.cancel()
            return
        await anyio.sleep_forever()  # the other end of a line that is half open hears nothing of this, either
