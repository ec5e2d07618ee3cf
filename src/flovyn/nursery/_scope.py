"""Cancel scopes: a tree whose leaves are the tasks, with Trio's semantics."""

# ruff: noqa: SLF001  # the scopes of a tree look into one another

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Self, cast, final

import anyio

from flovyn.nursery._current import current_task, stepping
from flovyn.nursery._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from flovyn.nursery._task import TaskState
    from flovyn.nursery.kernel import Kernel

__all__ = ["CancelScope", "Cancelled"]


@final
class Cancelled(BaseException):
    """Raised at a checkpoint inside a cancelled scope; the message is the reason that was given.

    Not an `Exception`: never swallow it, the scope that was cancelled does.

    Args:
        reason: Why, if it was said.
        by: The name of the task that cancelled the scope; None if it was the owner of the kernel, or a deadline.
    """

    def __init__(self, reason: str | None = None, by: str | None = None) -> None:
        super().__init__(reason, by)
        self.reason = reason
        self.by = by

    def __str__(self) -> str:
        text = "cancelled" if self.reason is None else self.reason
        return text if self.by is None else f"{text} (cancelled by task {self.by!r})"


class _Phase(enum.Enum):
    NEW = enum.auto()
    ACTIVE = enum.auto()
    ABANDONED = enum.auto()  # a scope around it was left first
    LEFT = enum.auto()


@final
class CancelScope(anyio.CancelScope):
    """A block of code that can be cancelled as a whole.

    Inside a cancelled scope every checkpoint raises, until the scope is left. A deadline expires only when its timer
    fires, never because somebody looks at the clock; one that lies in the past on entry cancels at once. No timer is
    started inside a scope that is cancelled already.

    Args:
        deadline: The time (see `current_time`) at which the scope cancels itself.
        shield: Whether cancellations of the scopes around this one stay outside.

    Raises:
        ValueError: The deadline is not a number.

    Example:
        >>> import anyio, flovyn.nursery
        >>> async def patient():
        ...     with anyio.CancelScope(deadline=anyio.current_time() + 60) as scope:
        ...         await anyio.sleep(3600)
        ...     return scope.cancelled_caught
        >>> anyio.run(patient, backend="flovyn")
        True
    """

    __slots__ = (
        "_by",
        "_called",
        "_caught",
        "_deadline",
        "_host",
        "_kernel",
        "_members",
        "_parent",
        "_phase",
        "_reason",
        "_shield",
        "_timer",
        "effectively_cancelled",
    )

    def __new__(cls, *, deadline: float = math.inf, shield: bool = False) -> Self:  # noqa: ARG004  # AnyIO's asks it
        return object.__new__(cls)

    def __init__(self, *, deadline: float = math.inf, shield: bool = False) -> None:
        self._deadline = _checked(deadline)
        self._shield = shield
        self._kernel: Kernel | None = None
        self._host: TaskState | None = None
        self._parent: CancelScope | None = None
        # What stands directly inside: tasks whose innermost scope this is, watches, and scopes. A dict: a set has no
        # order.
        self._members: dict[TaskState | Watch | CancelScope, None] = {}
        self._phase = _Phase.NEW
        self._called = False
        self._caught = False
        # Whether checkpoints directly inside raise: cancelled itself, or from around and not shielded. Not a property,
        # because every wait reads it.
        self.effectively_cancelled: bool = False
        self._reason: str | None = None
        self._by: str | None = None
        self._timer: object | None = None

    def __repr__(self) -> str:
        called = ", cancelled" if self._called else ""
        deadline = "" if self._deadline == math.inf else f", deadline {self._deadline}"
        return f"<CancelScope {self._phase.name.lower()}{called}{deadline}>"

    # --- what a user asks of it -------------------------------------------------------------

    def cancel(self, reason: str | None = None) -> None:
        """Cancel everything inside. A second call changes nothing, not even the reason.

        Args:
            reason: Goes into the message of the cancelled exception.

        Raises:
            DeterminismError: The scope belongs to a workflow, and this is the host's code.
        """
        kernel = self._kernel
        if kernel is not None:
            if self._called or kernel.dead:
                return
            kernel.keep_out()
        stepping_now = stepping.kernel
        caller = None if stepping_now is None else stepping_now.current
        self._called = True
        self._reason = reason
        self._by = None if caller is None else caller.name
        self._disarm()
        if self._phase is _Phase.ACTIVE:
            self._spread()

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Be told once, at the moment at which checkpoints directly inside begin to raise.

        At once, if they do so already. When the scope is left before, the watch moves to the scope around it. Of the
        tasks and watches that a cancellation reaches, those that were made first are told first. Nothing is called on a
        dead kernel.

        Args:
            callback: Called during a step or between steps; it must not wait and must not raise.

        Returns:
            The watch, for `stop()`.

        Raises:
            RuntimeError: The scope is not entered.

        Example:
            >>> import anyio, flovyn.nursery
            >>> async def main():
            ...     with flovyn.nursery.CancelScope() as outer, flovyn.nursery.CancelScope() as inner:
            ...         inner.watch(lambda: print("cancelled"))
            ...         outer.cancel()
            ...         print("cancel has returned")
            >>> anyio.run(main, backend="flovyn")
            cancelled
            cancel has returned
        """
        kernel = self._kernel
        if kernel is None or self._phase not in (_Phase.ACTIVE, _Phase.ABANDONED):
            raise RuntimeError("only a scope that is entered, and not left yet, can be watched")
        watch = Watch(kernel.next_number(), callback)
        if not kernel.dead:
            self._members[watch] = None
            watch.move(self)
            watch.tell()
        return watch

    @property
    def deadline(self) -> float:
        """When the scope cancels itself; setting it starts the timer anew."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        value = _checked(value)
        if value == self._deadline:
            return
        if self._kernel is not None:
            self._kernel.keep_out()
        self._deadline = value
        self._disarm()
        self._arm()

    @property
    def shield(self) -> bool:
        """Whether cancellations from around the scope stay outside."""
        return self._shield

    @shield.setter
    def shield(self, value: bool) -> None:
        if not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError("shield must be a bool")
        if self._kernel is not None:
            self._kernel.keep_out()
        self._shield = value
        if self._phase is _Phase.ACTIVE:
            self._spread()

    @property
    def cancel_called(self) -> bool:
        """Whether the scope was cancelled, by a call or by its deadline."""
        return self._called

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope swallowed a cancelled exception when it was left."""
        return self._caught

    @property
    def cancel_reason(self) -> str | None:
        """The reason that came with the cancellation."""
        return self._reason

    @property
    def timer_token(self) -> object | None:
        """What `Timers.start` returned for the deadline, while its timer runs."""
        return self._timer

    # --- entering and leaving ---------------------------------------------------------------

    def __enter__(self) -> Self:
        task = current_task()
        if self._phase is not _Phase.NEW:
            raise RuntimeError("Each CancelScope may only be used for a single 'with' block")
        parent = task.scope
        self._host = task
        del parent._members[task]
        self._members[task] = None
        task.scope = self
        self.attach(task.kernel, parent)
        return self

    def attach(self, kernel: Kernel, parent: CancelScope | None) -> None:
        """Take a place in the tree: under `parent`, or as a root of `kernel`."""
        self._kernel = kernel
        self._phase = _Phase.ACTIVE
        self.adopt(parent)
        self._arm()

    def admit(self, task: TaskState) -> None:
        """Put a task that is not running directly inside."""
        task.scope = self
        self._members[task] = None

    def dismiss(self, task: TaskState) -> None:
        """A task whose innermost scope this is has ended: take it out, and with it the scopes that it never left."""
        del self._members[task]
        outermost: CancelScope | None = None
        scope: CancelScope | None = self
        while scope is not None and scope._host is task:
            outermost, scope = scope, scope._parent
        if outermost is not None:
            outermost._cut_off(self, "the task that entered this scope has ended")

    def move_members(self, target: CancelScope, *, staying: TaskState | None) -> None:
        """Move what stands directly inside to another scope, except one task."""
        for member in list(self._members):
            if member is not staying:
                self._move(member, target)

    def _move(self, member: TaskState | Watch | CancelScope, target: CancelScope) -> None:
        if member not in self._members:
            return  # a watch that was told before this one had its turn stopped it
        if isinstance(member, CancelScope):
            member.adopt(target)
            return
        del self._members[member]
        if isinstance(member, Watch):
            target._members[member] = None
            member.move(target)
            member.tell()
        else:
            target.admit(member)
            member.kernel.deliver(member)

    def forget(self, watch: Watch) -> None:
        """A watch that stands directly inside has stopped."""
        del self._members[watch]

    def adopt(self, parent: CancelScope | None) -> None:
        """Move under another parent; what that one's state is reaches everything inside."""
        if self._parent is not None:
            del self._parent._members[self]
        self._parent = parent
        if parent is not None:
            parent._members[self] = None
        self._spread()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        remaining = self.close(exc_val)
        if remaining is None:
            return exc_val is not None
        if remaining is exc_val:
            return False
        context = remaining.__context__
        try:
            raise remaining
        finally:
            # A context manager cannot replace an exception without Python chaining the two.
            remaining.__context__ = context
            del remaining, context, exc_val, exc_tb

    def close(self, error: BaseException | None) -> BaseException | None:
        """Leave the scope; returns what is left of the error once this scope's own cancellation is taken out of it."""
        kernel = self._kernel
        if kernel is not None and kernel.dead:
            return error
        if self._phase is _Phase.ABANDONED:
            return error
        task = self._host
        if self._phase is not _Phase.ACTIVE or task is None:
            raise RuntimeError("This cancel scope is not active")
        if current_task() is not task:
            raise RuntimeError("Attempted to exit cancel scope in a different task than it was entered in")
        if task.scope is not self:
            innermost, around = task.scope, self._parent
            if around is not None:
                del innermost._members[task]
                around.admit(task)
            self._cut_off(innermost, "a scope around this one was left first")
            raise RuntimeError("Attempted to exit a cancel scope that isn't the current tasks's current cancel scope")
        try:
            if error is not None and self.effectively_cancelled and not self._parent_reaches():
                error = self._catch(error)
        finally:
            self.detach()  # also if the error is a group too deep to be taken apart
        return error

    def _catch(self, error: BaseException) -> BaseException | None:
        if isinstance(error, Cancelled):
            self._caught = True
            return None
        if isinstance(error, BaseExceptionGroup):
            matched, rest = cast("BaseExceptionGroup[BaseException]", error).split(Cancelled)
            if matched is not None:
                self._caught = True
            return rest
        return error

    def _cut_off(self, innermost: CancelScope, reason: str) -> None:
        """Recover from scopes that were not left in the right order: from here to `innermost` they are no more.

        Tasks that still run inside are cancelled, since nobody waits for them.
        """
        if self._parent is not None:
            del self._parent._members[self]
            self._parent = None
        self.cancel(reason)
        scope: CancelScope | None = innermost
        while scope is not None:
            scope._disarm()
            scope._phase = _Phase.ABANDONED
            scope = scope._parent

    def detach(self) -> None:
        """Give the place in the tree up; what still stands inside moves up."""
        parent = self._parent
        self._disarm()
        self._phase = _Phase.LEFT
        self._host = None
        if parent is not None:
            for member in list(self._members):
                self._move(member, parent)
            del parent._members[self]
            self._parent = None

    # --- how a cancellation travels ---------------------------------------------------------

    @property
    def parent(self) -> CancelScope | None:
        """The scope around this one."""
        return self._parent

    def _parent_reaches(self) -> bool:
        return self._parent is not None and not self._shield and self._parent.effectively_cancelled

    def _spread(self) -> None:
        """Recompute the state of this scope and of everything inside, then tell the tasks that it reaches."""
        reached: list[TaskState | Watch] = []
        todo: list[CancelScope] = [self]
        while todo:
            scope = todo.pop()
            effective = scope._called or scope._parent_reaches()
            if effective == scope.effectively_cancelled:
                continue
            scope.effectively_cancelled = effective
            if not effective:
                scope._arm()
            for member in scope._members:
                if isinstance(member, CancelScope):
                    todo.append(member)
                elif effective:
                    reached.append(member)
        # In the order in which the tasks were started: simple to tell, and independent of how scopes are nested.
        reached.sort(key=_number)
        for member in reached:
            if isinstance(member, Watch):
                member.tell()
            else:
                member.kernel.deliver(member)

    def cancelled_error(self) -> Cancelled:
        """The exception for a task whose innermost scope this is."""
        scope: CancelScope | None = self
        while scope is not None and not scope._called:
            scope = None if scope._shield else scope._parent
        return Cancelled() if scope is None else Cancelled(scope._reason, scope._by)

    def effective_deadline(self) -> float:
        """The earliest deadline that reaches the inside; -inf if it is cancelled."""
        if self.effectively_cancelled:
            return -math.inf
        deadline, scope = self._deadline, self
        while not scope._shield and scope._parent is not None:
            scope = scope._parent
            deadline = min(deadline, scope._deadline)
        return deadline

    # --- the timer of the deadline ----------------------------------------------------------

    def _arm(self) -> None:
        kernel = self._kernel
        if kernel is None or kernel.dead or self._phase is not _Phase.ACTIVE:
            return
        if self._called or self.effectively_cancelled or self._timer is not None or self._deadline == math.inf:
            return
        if self._deadline <= kernel.now:
            self._expire()
        else:
            self._timer = kernel.timers.start(self._deadline, self._expire, self)

    def _disarm(self) -> None:
        token, self._timer = self._timer, None
        if token is not None and self._kernel is not None and not self._kernel.dead:
            self._kernel.timers.cancel(token)

    def _expire(self) -> None:
        self._timer = None
        self.cancel("deadline")


def _number(member: TaskState | Watch) -> int:
    return member.id


def _checked(deadline: float) -> float:
    if math.isnan(deadline):
        raise ValueError("deadline must not be NaN")
    return deadline
