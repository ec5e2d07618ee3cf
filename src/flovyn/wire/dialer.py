"""The connections of a channel: one for new calls, made when one is needed, and those that finish their old ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from grpclib.protocol import AbstractHandler

from flovyn.errors import FlovynError, MalformedMessage, ServerUnavailable
from flovyn.wire.http2.session import Session, SessionLimits

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flovyn.wire.endpoint import Endpoint
    from flovyn.wire.options import ChannelOptions

__all__ = ["Dialer"]


class Dialer:
    """Hands out a connection that takes new calls.

    Callers that need one at the same time share one attempt. It belongs to them: when the last of them is cancelled,
    so is the attempt.
    """

    def __init__(self, endpoint: Endpoint, options: ChannelOptions, tasks: TaskGroup) -> None:
        self._endpoint = endpoint
        self._tasks = tasks
        self._within = options.connect_within
        self._limits = SessionLimits(
            stream_window=options.stream_window,
            max_streams=0,
            handshake_within=options.connect_within,
            keepalive_interval=options.keepalive_interval,
            keepalive_timeout=options.keepalive_timeout,
        )
        self._dial: _Dial | None = None
        self.sessions: list[Session] = []
        self.opened: int = 0
        self.failed: int = 0

    @property
    def open(self) -> int:
        return len(self.sessions)

    @property
    def waiting(self) -> int:
        return sum(session.processor.slots.waiting for session in self.sessions)

    @property
    def dialing(self) -> int:
        return int(self._dial is not None)

    async def session(self) -> Session:
        """A connection that takes new calls.

        Raises:
            ServerUnavailable: The server cannot be reached.
            MalformedMessage: What listens there does not speak HTTP/2.
        """
        if self.sessions and self.sessions[-1].usable:
            return self.sessions[-1]
        dial = self._dial
        if dial is None:
            dial = self._dial = _Dial()
            self._tasks.start_soon(self._run, dial)
        dial.waiting += 1
        try:
            await dial.done.wait()
        finally:
            dial.waiting -= 1
            if not dial.waiting and not dial.done.is_set():
                dial.scope.cancel()
                self._dial = None
        return dial.result()

    async def lost(self) -> None:
        """Wait until the connection that takes new calls is over; no wait if none does."""
        if self.sessions and self.sessions[-1].usable:
            await self.sessions[-1].over()

    def hang_up(self, reason: str) -> None:
        """End every connection. Its calls may have taken effect."""
        for session in self.sessions:
            session.hang_up(reason)

    async def _run(self, dial: _Dial) -> None:
        """Makes a connection and stays with it until it is over."""
        try:
            with dial.scope:
                await self._connect(dial)
        finally:
            dial.settle(None, ServerUnavailable("the channel was closed while it was connecting"))

    async def _connect(self, dial: _Dial) -> None:
        try:
            with anyio.fail_after(self._within):
                stream = await self._endpoint.connect()
        except TimeoutError:
            error = ServerUnavailable(f"cannot connect to {self._endpoint.url}: no answer within {self._within:g} s")
            self._fail(dial, error)
        except (ServerUnavailable, MalformedMessage) as error:
            self._fail(dial, error)
        else:
            session = Session(
                stream, _NoRequests(), self._limits, client_side=True, on_ready=partial(self._introduce, dial)
            )
            try:
                await session.run()
            finally:
                if session in self.sessions:
                    self.sessions.remove(session)

    def _introduce(self, dial: _Dial, session: Session) -> None:
        end = session.termination or session.processor.ending
        if dial.scope.cancel_called:
            return  # came too late for its callers, and ends now
        if end is None:
            self.sessions.append(session)
            self.opened += 1
            self._dial = None
            dial.settle(session, None)
        else:
            kind = MalformedMessage if end.malformed else ServerUnavailable
            self._fail(dial, kind(f"cannot talk to {self._endpoint.url}: {end.reason}"))

    def _fail(self, dial: _Dial, error: FlovynError) -> None:
        self.failed += 1
        if self._dial is dial:
            self._dial = None
        dial.settle(None, error)


class _Dial:
    """One attempt at a connection, shared by all who wait for it."""

    __slots__ = ("_error", "_session", "done", "scope", "waiting")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.waiting = 0
        self._session: Session | None = None
        self._error: FlovynError | None = None

    def settle(self, session: Session | None, error: FlovynError | None) -> None:
        if not self.done.is_set():
            self._session, self._error = session, error
            self.done.set()

    def result(self) -> Session:
        if self._session is not None:
            return self._session
        assert self._error is not None
        # A copy for each caller: one exception raised in several tasks collects all their tracebacks.
        raise type(self._error)(self._error.message) from self._error


class _NoRequests(AbstractHandler):
    """A client is never called."""

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:  # noqa: ARG002
        raise AssertionError("a server cannot open streams: push is disabled")

    def cancel(self, stream: Any) -> None: ...

    def close(self) -> None: ...
