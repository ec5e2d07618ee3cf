"""What a task body that runs in a thread is given: the same as any other, without `await`."""

from __future__ import annotations

from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from flovyn import serde
from flovyn.task import entries, streams
from flovyn.task.desk import Desk, LocalDesk
from flovyn.task.facts import Facts, TaskFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flovyn.definitions import StateKey
    from flovyn.task.desk import LogLevel, StreamKind

__all__ = ["Bridge", "SyncTaskContext"]

T = TypeVar("T")
D = TypeVar("D")


class Bridge(Protocol):
    """The way from a body's thread to the event loop that the desk belongs to."""

    def call(self, fn: Callable[[], T]) -> T:
        """Have a function called there."""
        ...

    def wait(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have a coroutine run there, and wait until it has ended.

        Raises:
            CancelledError: That of `concurrent.futures`: the task is to end, so the coroutine was cancelled.
        """
        ...


class _NoBridge:
    """For a context that no worker has made: its desk is of this thread, and never waits."""

    def call(self, fn: Callable[[], T]) -> T:
        return fn()

    def wait(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            fn().send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a local desk waits for nothing")


class SyncTaskContext(TaskFacts):
    """The first argument of a `@task` that is a plain function, which the worker runs in a thread.

    Nothing ends a thread from outside. So each of these methods raises `TaskCancelled` once the task is to end early,
    and goes on doing so: a body that calls one now and then can be cancelled, one that never does cannot, and is
    abandoned after a while (see `Worker`). What is only known, such as `attempt` or `cancel_reason`, can be read still.

    The context may be used from any thread for as long as the body runs.

    Args:
        task_execution_id: The id of this task.
        kind: Its kind.
        desk: Where everything goes that is for the server.
        bridge: The way to the event loop of the desk.
        facts: What else is known of it, as for `TaskContext`.

    Example:
        ```python
        @task
        def resize(ctx: SyncTaskContext, paths: list[str]) -> None:
            for number, path in enumerate(paths):
                ctx.report_progress(number / len(paths))
                shrink(path)
        ```
    """

    __slots__ = ("_bridge", "_desk")

    def __init__(
        self,
        *,
        task_execution_id: str,
        kind: str,
        desk: Desk | None = None,
        bridge: Bridge | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(task_execution_id=task_execution_id, kind=kind, **facts)
        self._desk: Desk = desk or LocalDesk()
        self._bridge: Bridge = bridge or _NoBridge()

    def _tell(self, fn: Callable[[], None]) -> None:
        self.check_cancellation()
        self._bridge.call(fn)

    def _ask(self, fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.check_cancellation()
        try:
            return self._bridge.wait(fn)
        except CancelledError:  # the attempt was cancelled in the middle of it
            self.check_cancellation()
            raise

    # --- telling ----------------------------------------------------------------------------

    def report_progress(self, fraction: float, details: str = "") -> None:
        """Tell people how far the task is; see `TaskContext.report_progress`.

        Raises:
            UsageError: `fraction` is not a number from 0 to 1.
            TaskCancelled: The task is to end.
        """
        self._tell(partial(self._desk.progress, streams.fraction_of(fraction), details))

    def log(self, level: LogLevel, message: str) -> None:
        """Add a line to the log that the server keeps of this task; see `TaskContext.log`.

        Raises:
            UsageError: The level is none of the platform's.
            TaskCancelled: The task is to end.
        """
        self._tell(partial(self._desk.log, entries.checked_level(level), message))

    def heartbeat(self, details: object = None) -> None:
        """Say that the task gets on; see `TaskContext.heartbeat`.

        Raises:
            PayloadError: `details` cannot be written as JSON.
            TaskCancelled: The task is to end.
        """
        self._tell(partial(self._desk.heartbeat, None if details is None else serde.encode(details)))

    @overload
    def last_heartbeat(self, type_: type[T]) -> T | None: ...

    @overload
    def last_heartbeat(self, type_: Any = Any) -> Any: ...

    def last_heartbeat(self, type_: Any = Any) -> Any:
        """What `heartbeat` was last given, in this attempt or an earlier one; see `TaskContext.last_heartbeat`.

        Raises:
            PayloadError: It does not fit the type.
            ServerError: The server refuses the call.
            TaskCancelled: The task is to end.
        """
        return entries.read_details(self._ask(self._desk.last_heartbeat), type_)

    # --- streaming --------------------------------------------------------------------------

    def stream_token(self, text: str) -> None:
        """Show a piece of text to whoever follows the task live; see `TaskContext.stream_token`.

        Raises:
            TaskCancelled: The task is to end.
        """
        self._stream(streams.token_event(text))

    def stream_progress(self, fraction: float, details: str | None = None) -> None:
        """Show how far the task is to whoever follows it live.

        Raises:
            UsageError: `fraction` is not a number from 0 to 1.
            TaskCancelled: The task is to end.
        """
        self._stream(streams.progress_event(fraction, details))

    def stream_data(self, data: object) -> None:
        """Show any data to whoever follows the task live.

        Raises:
            PayloadError: It cannot be written as JSON.
            TaskCancelled: The task is to end.
        """
        self._stream(streams.data_event(data))

    def stream_error(self, message: str, code: str | None = None) -> None:
        """Show something that went wrong, and that the task survives, to whoever follows it live.

        Raises:
            TaskCancelled: The task is to end.
        """
        self._stream(streams.error_event(message, code))

    def _stream(self, event: tuple[StreamKind, str]) -> None:
        self._ask(partial(self._desk.stream, *event))

    # --- state ------------------------------------------------------------------------------

    @overload
    def get(self, key: StateKey[T]) -> T | None: ...

    @overload
    def get(self, key: StateKey[T], default: T) -> T: ...

    @overload
    def get(self, key: StateKey[T], default: D) -> T | D: ...

    @overload
    def get(self, key: str, default: Any = None) -> Any: ...

    def get(self, key: StateKey[Any] | str, default: Any = None) -> Any:
        """What this task has written under a key, in this attempt or an earlier one; see `TaskContext.get`.

        Raises:
            PayloadError: What was written does not fit the type.
            ServerError: The server refuses the call.
            TaskCancelled: The task is to end.
        """
        name = entries.key_name(key)
        return entries.read(key, self._ask(lambda: self._desk.get(name)), default)

    @overload
    def set(self, key: StateKey[T], value: T) -> None: ...

    @overload
    def set(self, key: str, value: object) -> None: ...

    def set(self, key: StateKey[Any] | str, value: Any) -> None:
        """Write a value under a key; it is there for later attempts once this returns.

        Raises:
            PayloadError: It cannot be written as JSON.
            ServerError: The server refuses the call: the task is somebody else's by now, or has too many keys.
            TaskCancelled: The task is to end.
        """
        self._ask(partial(self._desk.set, entries.key_name(key), entries.written(key, value)))

    def clear(self, key: StateKey[Any] | str) -> None:
        """Drop what is under a key.

        Raises:
            ServerError: The server refuses the call.
            TaskCancelled: The task is to end.
        """
        self._ask(partial(self._desk.clear, entries.key_name(key)))

    def clear_all(self) -> None:
        """Drop every key, and what the last heartbeat said.

        Raises:
            ServerError: The server refuses the call.
            TaskCancelled: The task is to end.
        """
        self._ask(self._desk.clear_all)

    def state_keys(self) -> list[str]:
        """The keys under which something is written, in alphabetical order.

        Raises:
            ServerError: The server refuses the call.
            TaskCancelled: The task is to end.
        """
        return entries.own_keys(self._ask(self._desk.keys))
