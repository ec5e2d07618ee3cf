"""The engine among the living: its clock, its pollers, and who is calling."""

from __future__ import annotations

import logging
import math
import sqlite3
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.lowlevel

from flovyn.errors import FlovynError, PermissionDenied, ServerUnavailable
from flovyn.server import limits
from flovyn.server.auth import USER_METHODS
from flovyn.server.endings import Endings
from flovyn.server.engine import Caller
from flovyn.server.engine.validation import shown
from flovyn.server.news import News
from flovyn.server.store import failure
from flovyn.server.waiting import Waiters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flovyn.server.acceptor import Call, Peer
    from flovyn.server.auth import Keys, Principal
    from flovyn.server.engine import Engine, Poller

__all__ = ["CLAIM_METADATA", "Shell"]

CLAIM_METADATA = "flovyn-claim"
"""The metadata that carries the fencing token, both ways."""

_RETRY_S = 1.0
_log = logging.getLogger("flovyn.server")


class Claimed(Protocol):
    """A piece of work in somebody's hands."""

    @property
    def kind(self) -> str:
        """What sort of work it is."""
        ...


T = TypeVar("T", bound=Claimed)


class Source(Protocol[T]):
    """Where work comes from."""

    def claim(self, caller: Caller, poller: Poller, /) -> T | None:
        """Give the first piece that the poller can work on into its hands, if there is one."""
        ...

    def give_back(self, claimed: T, /) -> None:
        """Take it back from one who has gone without hearing of it."""
        ...


C = TypeVar("C")
Q = TypeVar("Q")
R = TypeVar("R")


class Shell:
    """Connects calls, polls and the passing of time to an engine.

    Args:
        engine: The engine.
        keys: Who may call.
    """

    def __init__(self, engine: Engine, keys: Keys) -> None:
        self.engine = engine
        self.waiters: Waiters = Waiters()
        self.news: News = News()
        self.endings: Endings = Endings()
        self._keys = keys
        self._alarm = anyio.Event()
        self._ending = False
        self._asleep_until = math.inf
        self._batch: _Batch | None = None
        self._begun = anyio.Event()
        self.written: anyio.Event = anyio.Event()
        """Set when something has been written the next time."""
        engine.core.store.group(self._begin)

    # --- calls ------------------------------------------------------------------------------

    def caller(self, call: Call, *, org_id: str | None = None) -> Caller:
        """Who makes this call; `org_id` is what its request claims, if it has such a field.

        Raises:
            Unauthenticated: The call has no key that we know.
            PermissionDenied: The key belongs to another organisation, or is not for this call.
        """
        principal = self.principal(call.metadata.get("authorization"))
        own = principal.org_id
        if org_id is not None and org_id != own:
            raise PermissionDenied(f"the token does not belong to organisation {shown(org_id)}")
        if "Worker" not in principal.types and call.method.path not in USER_METHODS:
            raise PermissionDenied(f"a user key cannot do what workers do ({call.method.path}); use a worker key")
        caller = Caller(own, call.peer.id, call.metadata.get(CLAIM_METADATA))
        self.engine.call_begun(caller)
        return caller

    def principal(self, authorization: str | None) -> Principal:
        """Who shows this authorization header.

        Raises:
            Unauthenticated: It has no key that we know.
        """
        return self._keys.principal(authorization)

    def settle(self) -> None:
        """After a step of the engine: wake the polls that can have something now, and the clock if it oversleeps."""
        for ready in self.engine.take_ready():
            self.waiters.wake(ready)
            self.news.tell(ready)
        for run_id in self.engine.take_ended():
            self.endings.tell(run_id)
        if self.engine.next_at < self._asleep_until:
            self._alarm.set()

    def answering(self, handler: Callable[[C, Q], Awaitable[R]]) -> Callable[[C, Q], Awaitable[R]]:
        """The handler, with all settled after it (any call may move a lease, and many make work ready), and kept."""

        async def answer(call: C, request: Q) -> R:
            outcome: R | FlovynError
            try:
                outcome = await handler(call, request)
            except FlovynError as error:
                outcome = error
            except sqlite3.DatabaseError as error:
                raise failure(error) or error from error
            finally:
                self.settle()
            await self.kept()  # a refusal, too, may tell of what is not yet
            if isinstance(outcome, FlovynError):
                raise outcome
            return outcome

        return answer

    def disconnected(self, peer: Peer) -> None:
        """A connection closed, and all its handlers have ended."""
        self.engine.disconnected(peer.id)
        self.settle()

    async def poll(
        self, caller: Caller, poller: Poller, seconds: int, source: Source[T], *, at_most: int = 1
    ) -> list[T]:
        """Claim something now, or as soon as there is something, or nothing after so many seconds.

        Args:
            caller: Who polls.
            poller: For what.
            seconds: How long it may take.
            source: Where the work comes from.
            at_most: How much is wanted, if there is so much.
        """
        try:
            claimed = self._claim(caller, poller, source, at_most)
            if not claimed and seconds > 0 and not self._ending:
                claimed = await self._wait_and_claim(caller, poller, seconds, source, at_most)
        except sqlite3.DatabaseError as error:
            raise failure(error) or error from error
        self.settle()
        if claimed:
            try:
                await self.kept()
            except anyio.get_cancelled_exc_class():
                self.take_back(source, claimed)
                raise
        return claimed

    def take_back(self, source: Source[T], claimed: Sequence[T]) -> None:
        """Free claims whose poller gave up while the answer was on its way."""
        for one in claimed:
            source.give_back(one)
        self.settle()

    def _claim(self, caller: Caller, poller: Poller, source: Source[T], at_most: int) -> list[T]:
        claimed: list[T] = []
        # What others wait for is left to them.
        while len(claimed) < (at_most if self.waiters.of(poller) < 2 else 1):
            one = source.claim(caller, poller)
            if one is None:
                break
            claimed.append(one)
        return claimed

    async def ending(self, caller: Caller, run_id: str, seconds: float) -> None:
        """Wait until a run has ended, but no longer than this.

        Raises:
            NotFound: There is no such execution in the caller's organisation.
        """
        if not self._ending and self.engine.workflows.is_to_end(caller, run_id):
            self.settle()
            with anyio.move_on_after(min(seconds, limits.POLL_CAP_S)):
                await self.endings.wait(run_id)

    def end_polls(self) -> None:
        """Let every long poll, and every stream of notifications, end by itself."""
        self._ending = True
        self.endings.wake_all()
        self.waiters.wake_all()
        self.news.end()

    async def _wait_and_claim(
        self, caller: Caller, poller: Poller, seconds: int, source: Source[T], at_most: int
    ) -> list[T]:
        self.settle()
        self.engine.poll_begun(caller)
        claimed: list[T] = []
        try:
            with self.waiters.place(poller) as waiter, anyio.move_on_after(min(seconds, limits.POLL_CAP_S)):
                while True:
                    await waiter.wait()
                    if self._ending:
                        break
                    # From here on nothing waits but for the disk, and a claim for a caller who has gone is given back.
                    claimed = self._claim(caller, poller, source, at_most)
                    waiter.looked([one.kind for one in claimed])
                    if claimed:
                        break
        finally:
            self.engine.poll_ended(caller)
        return claimed

    # --- what is kept -----------------------------------------------------------------------

    def _begin(self) -> None:
        self._batch = _Batch()
        self._begun.set()

    async def kept(self) -> None:
        """Until everything that was done so far is in the file.

        Raises:
            ServerUnavailable: It could not be written: none of it has happened.
        """
        batch = self._batch
        if batch is not None:
            await batch.written.wait()
            if batch.error is not None:
                raise batch.error

    async def keep_writing(self) -> None:
        """Write what concurrent calls have done, all of it at once, for ever."""
        while True:
            await self._begun.wait()
            await anyio.lowlevel.checkpoint()  # whoever is about to do something joins in
            self.write()

    def write(self) -> None:
        """Write what has been done, if anything, and let those go on who wait for that."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        self._begun = anyio.Event()
        try:
            self.engine.core.store.commit()
        except ServerUnavailable as error:
            _log.error("nothing of what was done last could be written: %s", error.message)
            batch.error = error
            self.engine.reload()
            self.waiters.wake_all()
            self.endings.wake_all()
        batch.written.set()
        self.written.set()
        self.written = anyio.Event()
        self.settle()

    @property
    def rests(self) -> bool:
        """Whether nothing is to be written, and no poll has been woken that has yet to look for its work."""
        return self._batch is None and not self.waiters.called

    # --- time -------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Tick the engine whenever something is due, for ever."""
        clock = self.engine.core.clock
        while True:
            self._alarm = anyio.Event()
            self._asleep_until = self.engine.next_at
            with anyio.move_on_after(min((self._asleep_until - clock()) / 1000, limits.CLOCK_CHECK_S)):
                await self._alarm.wait()
            await anyio.lowlevel.checkpoint()
            if self.engine.next_at <= clock():
                try:
                    self.engine.tick()
                except Exception:  # noqa: BLE001 - the clock must outlive a disk that is full for a while
                    _log.exception("the server could not fire what is due; it tries again")
                    await anyio.sleep(_RETRY_S)
            self.settle()


class _Batch:
    """What concurrent calls have done and what is written together."""

    def __init__(self) -> None:
        self.written = anyio.Event()
        self.error: ServerUnavailable | None = None
