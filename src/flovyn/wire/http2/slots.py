"""The peer's limit of concurrent streams, shared out in order of arrival."""

from __future__ import annotations

from collections import deque

import anyio

__all__ = ["Slots"]


class Slots:
    """First come, first served; a slot that becomes free is handed to one waiter directly, so nobody overtakes.

    A slot is held until its call is over on this side: later than h2, which counts a stream as closed as soon as both
    ends of it are. So never more streams are open on the wire than the peer allows.

    Servers refuse streams nevertheless. gRPC's C core strikes a stream off its list only when the write that carried
    its END_STREAM has returned; a client that has read that frame and opens the next stream at once can be faster, and
    meets a full list with fewer streams open than it may have (seen with grpcio: REFUSED_STREAM with anything from
    none to seven of eight streams open, none at all from a server that counts what is on the wire, and none once slots
    were handed on some milliseconds late). No order of our own can avoid that without idling, so such a call is made
    again: see `Caller.consider`. Its slot is withheld for as long as it pauses, so the more the server refuses, the
    later slots are handed on.
    """

    __slots__ = ("_closed", "_waiters", "held", "limit")

    def __init__(self) -> None:
        self.limit: int = 2**31
        self.held: int = 0
        self._closed = False
        self._waiters: deque[_Waiter] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def acquire(self) -> bool:
        """Waits for a slot; False if the connection takes no more streams."""
        if self._closed:
            return False
        if self.held < self.limit and not self._waiters:
            self.held += 1
            return True
        waiter = _Waiter()
        self._waiters.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.granted:
                self.release()  # came together with the cancel: on to the next one
            elif not waiter.event.is_set():
                self._waiters.remove(waiter)
            raise
        if waiter.granted and self._closed:
            self.release()  # came, and was not used yet, when the connection began to end
            return False
        return waiter.granted

    def release(self) -> None:
        self.held -= 1
        self._grant()

    def withhold(self) -> None:
        """Take a slot out of circulation, even if none is free; `release` puts it back."""
        self.held += 1

    def resize(self, limit: int) -> None:
        """The peer has changed its mind. Streams above a lower limit run on; new ones wait."""
        self.limit = limit
        self._grant()

    def close(self) -> None:
        """Sends everybody away who waits or will come."""
        self._closed = True
        while self._waiters:
            self._waiters.popleft().event.set()

    def _grant(self) -> None:
        while self._waiters and self.held < self.limit:
            waiter = self._waiters.popleft()
            waiter.granted = True
            self.held += 1
            waiter.event.set()


class _Waiter:
    __slots__ = ("event", "granted")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.granted = False
