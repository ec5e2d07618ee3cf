"""One long poll in flight, issued only when a slot is free."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import anyio

from flovyn.worker.patience import answered
from flovyn.worker.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from flovyn.worker.contact import Contact
    from flovyn.worker.slots import Slot
    from flovyn.worker.statistics import Gauges

__all__ = ["PollIdentity", "Poller", "Runner"]

W = TypeVar("W")

logger: logging.Logger = logging.getLogger("flovyn.worker")

# A server may answer an empty poll at once; it is then asked no more often than this.
_SHORTEST_EMPTY_POLL: Final = 0.1


@dataclass(frozen=True, slots=True)
class PollIdentity:
    """What each poll says about who asks.

    Args:
        worker_id: The worker's name: the platform matches polls by it.
        org_id: The organisation.
        queue: The queue.
        seconds: How long the server may keep the poll waiting for work.
    """

    worker_id: str
    org_id: str
    queue: str
    seconds: int = 30


class Runner(Protocol[W]):
    """Gets work of one sort, and does it."""

    def poll(self, at_most: int) -> Coroutine[Any, Any, Sequence[W]]:
        """Ask the server once, for so much."""
        ...

    async def run(self, work: W, slot: Slot) -> None:
        """Do the work, once its slot is held. What it raises is a bug."""
        ...


class Poller(Generic[W]):
    """Keeps a runner in work, up to a number of pieces at once.

    The slots outlive a session: work that was claimed before an outage still holds its slot after it.

    Args:
        runner: The work.
        limit: How many pieces may run at once.
        answer_within: Seconds that an answer may take, whether or not there is work.
        contact: Told of each answer.
        gauges: Counts polls.
    """

    __slots__ = ("_answer_within", "_contact", "_gauges", "_polling", "_runner", "_slots", "_stopped")

    def __init__(
        self, runner: Runner[W], *, limit: int, answer_within: float, contact: Contact, gauges: Gauges
    ) -> None:
        self._runner = runner
        self._answer_within = answer_within
        self._slots = Slots(limit)
        self._contact = contact
        self._gauges = gauges
        self._polling: anyio.CancelScope | None = None
        self._stopped = False

    async def poll(self, work: TaskGroup, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Poll until `stop`, or until the connection fails.

        Args:
            work: Where the pieces run. They outlive this call.
            task_status: Told just before the first poll.
        """
        task_status.started()
        if self._stopped:
            return
        with self._gauges.count("internal_tasks"), anyio.CancelScope() as self._polling:
            while True:
                await self._slots.free()
                # No await once the answer has come: a piece that was claimed is never dropped.
                for piece in await self._ask():
                    work.start_soon(self._run, piece, self._slots.slot())

    def stop(self) -> None:
        """Poll no more, in this session or any other. What was claimed goes on."""
        self._stopped = True
        if self._polling is not None:
            self._polling.cancel("the worker was told to stop")

    async def drained(self) -> None:
        """Wait until no piece is under way. Only after `stop`."""
        await self._slots.idle()

    async def _ask(self) -> Sequence[W]:
        asked = anyio.current_time()
        with self._gauges.count("open_polls"):
            pieces = await answered(self._runner.poll(self._slots.left), "a poll", self._answer_within)
        self._contact.heard()
        if not pieces:
            await anyio.sleep(max(0.0, asked + _SHORTEST_EMPTY_POLL - anyio.current_time()))
        return pieces

    async def _run(self, piece: W, slot: Slot) -> None:
        try:
            await self._runner.run(piece, slot)
        except Exception:
            logger.exception("a piece of work was lost by a bug of this SDK; the worker goes on")
        finally:
            slot.close()
