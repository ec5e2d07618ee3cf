"""What an asynchronous task body is given."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import anyio
import anyio.lowlevel

from flovyn import serde
from flovyn.errors import UsageError
from flovyn.task import entries, streams
from flovyn.task.desk import Desk, LocalDesk
from flovyn.task.facts import Facts, TaskFacts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flovyn.definitions import StateKey
    from flovyn.task.desk import LogLevel, StreamKind

__all__ = ["TaskContext"]

T = TypeVar("T")
D = TypeVar("D")


class TaskContext(TaskFacts):
    """The first argument of every `@task` that is an `async def`; a plain function is given a `SyncTaskContext`.

    A task runs in the host's world: it may use AnyIO, or asyncio or Trio directly, and everything built on them. When
    it is to end early, the scope around it is cancelled, so that its next await raises the backend's own cancelled
    exception; nothing need be asked. `check_cancellation` is for stretches of code that do not await.

    What only tells something (`report_progress`, `log`, `heartbeat`) is a plain method and returns at once. What may
    have to wait (`stream_token` and its like, and everything about state) is awaited.

    A worker makes contexts. One that is made by hand, in a unit test, keeps state in memory and tells nobody anything.

    Args:
        task_execution_id: The id of this task.
        kind: Its kind.
        desk: Where everything goes that is for the server.
        facts: What else is known of it: `attempt`, `queue`, `workflow_execution_id`, `arguments` (what `input` shows),
            `cancellation`, `resources`.

    Example:
        ```python
        @task
        async def charge(ctx: TaskContext, order: Order) -> Payment:
            ctx.logger.info("attempt %d", ctx.attempt)
            return await gateway.charge(order, idempotency_key=ctx.task_execution_id)
        ```
    """

    __slots__ = ("_desk",)

    def __init__(self, *, task_execution_id: str, kind: str, desk: Desk | None = None, **facts: Unpack[Facts]) -> None:
        super().__init__(task_execution_id=task_execution_id, kind=kind, **facts)
        self._desk: Desk = desk or LocalDesk()

    # --- telling ----------------------------------------------------------------------------

    def report_progress(self, fraction: float, details: str = "") -> None:
        """Tell people how far the task is. Returns at once; of what has not been sent yet the last report counts.

        Args:
            fraction: From 0 to 1.
            details: A few words.

        Raises:
            UsageError: `fraction` is not a number from 0 to 1.

        Example:
            ```python
            for number, page in enumerate(pages):
                await render(page)
                ctx.report_progress((number + 1) / len(pages), page.title)
            ```
        """
        self._desk.progress(streams.fraction_of(fraction), details)

    def log(self, level: LogLevel, message: str) -> None:
        """Add a line to the log that the server keeps of this task. Returns at once.

        Lines are sent in order, in the background. While the server is away up to 1000 are kept, then the oldest go;
        it keeps no more itself.

        Args:
            level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
            message: The line.

        Raises:
            UsageError: The level is another one.
        """
        self._desk.log(entries.checked_level(level), message)

    def heartbeat(self, details: object = None) -> None:
        """Say that the task gets on. Returns at once.

        The worker keeps every running task alive by itself. This is for tasks with a `heartbeat_timeout`, which end
        when their body has not called this for so long; and for leaving a note for a later attempt.

        Args:
            details: What `last_heartbeat` gives to a later attempt: how far this one came, for instance. Of what has
                not been sent yet the last counts. None leaves what was said before.

        Raises:
            PayloadError: `details` cannot be written as JSON.

        Example:
            ```python
            @task(heartbeat_timeout=30)
            async def load(ctx: TaskContext, rows: list[Row]) -> None:
                done = await ctx.last_heartbeat(int) or 0
                for number in range(done, len(rows)):
                    await insert(rows[number])
                    ctx.heartbeat(number + 1)
            ```
        """
        self._desk.heartbeat(None if details is None else serde.encode(details))

    @asynccontextmanager
    async def heartbeat_every(self, interval: float) -> AsyncGenerator[None]:
        """Call `heartbeat` again and again for as long as a block runs: around one long wait that is known to be fine.

        Args:
            interval: Seconds between two calls.

        Raises:
            UsageError: `interval` is not more than 0.

        Example:
            ```python
            async with ctx.heartbeat_every(5):
                await model.train()
            ```
        """
        if not interval > 0:
            raise UsageError(f"interval is a number of seconds above 0, not {interval!r}")
        raised: Exception | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._keep_beating, interval)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - kept away from the task group, which would wrap it
                raised = error
            finally:
                beside.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def _keep_beating(self, interval: float) -> None:
        while True:
            self.heartbeat()
            await anyio.sleep(interval)

    @overload
    async def last_heartbeat(self, type_: type[T]) -> T | None: ...

    @overload
    async def last_heartbeat(self, type_: Any = Any) -> Any: ...

    async def last_heartbeat(self, type_: Any = Any) -> Any:
        """What `heartbeat` was last given, in this attempt or an earlier one, whichever worker made it.

        Args:
            type_: The type that it is read as; plain JSON data if left out.

        Returns:
            The details; None if there are none.

        Raises:
            PayloadError: They do not fit the type.
            ServerError: The server refuses the call.
        """
        return entries.read_details(await self._desk.last_heartbeat(), type_)

    # --- streaming --------------------------------------------------------------------------

    async def stream_token(self, text: str) -> None:
        """Show a piece of text to whoever follows the task live.

        Events of a stream arrive in the order of the calls, each at most once, and leave no trace: what is lost with a
        connection, or not sent when the task ends, is gone, and fails nothing. Up to 256 wait to be sent. When there is
        no room the call waits for some, a second at most; then its event is dropped, and so are the next ones until
        there is room again. A reader sees the gap in the events' numbers, which count from 0 in each attempt.
        """
        await self._stream(streams.token_event(text))

    async def stream_progress(self, fraction: float, details: str | None = None) -> None:
        """Show how far the task is to whoever follows it live; `report_progress` is what the server keeps.

        Raises:
            UsageError: `fraction` is not a number from 0 to 1.
        """
        await self._stream(streams.progress_event(fraction, details))

    async def stream_data(self, data: object) -> None:
        """Show any data to whoever follows the task live.

        Raises:
            PayloadError: It cannot be written as JSON.
        """
        await self._stream(streams.data_event(data))

    async def stream_error(self, message: str, code: str | None = None) -> None:
        """Show something that went wrong, and that the task survives, to whoever follows it live."""
        await self._stream(streams.error_event(message, code))

    async def _stream(self, event: tuple[StreamKind, str]) -> None:
        await anyio.lowlevel.checkpoint()
        await self._desk.stream(*event)

    # --- state ------------------------------------------------------------------------------

    @overload
    async def get(self, key: StateKey[T]) -> T | None: ...

    @overload
    async def get(self, key: StateKey[T], default: T) -> T: ...

    @overload
    async def get(self, key: StateKey[T], default: D) -> T | D: ...

    @overload
    async def get(self, key: str, default: Any = None) -> Any: ...

    async def get(self, key: StateKey[Any] | str, default: Any = None) -> Any:
        """What this task has written under a key, in this attempt or an earlier one.

        State is kept by the server until the task is forgotten. A call waits for a server that is away.

        Args:
            key: As a `StateKey` with a type or as text.
            default: What to return if there is nothing.

        Raises:
            PayloadError: What was written does not fit the type.
            ServerError: The server refuses the call.

        Example:
            ```python
            DONE = StateKey[list[str]]("done")

            @task
            async def send_all(ctx: TaskContext, addresses: list[str]) -> None:
                done = await ctx.get(DONE, [])
                for address in addresses[len(done):]:
                    await send(address)
                    done.append(address)
                    await ctx.set(DONE, done)
            ```
        """
        return entries.read(key, await self._desk.get(entries.key_name(key)), default)

    @overload
    async def set(self, key: StateKey[T], value: T) -> None: ...

    @overload
    async def set(self, key: str, value: object) -> None: ...

    async def set(self, key: StateKey[Any] | str, value: Any) -> None:
        """Write a value under a key; it is there for later attempts once this returns.

        Raises:
            PayloadError: It cannot be written as JSON.
            ServerError: The server refuses the call: the task is somebody else's by now, or has too many keys.
        """
        await self._desk.set(entries.key_name(key), entries.written(key, value))

    async def clear(self, key: StateKey[Any] | str) -> None:
        """Drop what is under a key.

        Raises:
            ServerError: The server refuses the call.
        """
        await self._desk.clear(entries.key_name(key))

    async def clear_all(self) -> None:
        """Drop every key, and what the last heartbeat said.

        Raises:
            ServerError: The server refuses the call.
        """
        await self._desk.clear_all()

    async def state_keys(self) -> list[str]:
        """The keys under which something is written, in alphabetical order.

        Raises:
            ServerError: The server refuses the call.
        """
        return entries.own_keys(await self._desk.keys())
