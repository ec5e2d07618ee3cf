"""What Hypercorn's protocols ask of the worker they run in: tasks, events and time, from AnyIO."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectSendStream
    from hypercorn.config import Config
    from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope
    from hypercorn.typing import Event as HypercornEvent
    from hypercorn.typing import SingleTask as HypercornSingleTask

__all__ = ["Context", "Event", "SingleTask", "Tasks"]

logger: logging.Logger = logging.getLogger(__name__)


class Event:
    """An event that can be cleared."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def clear(self) -> None:
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    async def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()


class SingleTask:
    """At most one task at a time."""

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None

    async def restart(self, task_group: Any, action: Callable[[], Awaitable[None]]) -> None:
        """Run this, in place of what runs now."""
        await self.stop()
        scope = self._scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await action()

        task_group.spawn(run)

    async def stop(self) -> None:
        """Let it run no longer."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None


class Context:
    """What all connections of a server share."""

    event_class: type[HypercornEvent] = Event
    single_task_class: type[HypercornSingleTask] = SingleTask

    def __init__(self) -> None:
        self.terminate: HypercornEvent = Event()
        self.terminated: HypercornEvent = Event()

    async def mark_request(self) -> None:
        """A request has come."""

    @staticmethod
    async def sleep(wait: float) -> None:
        await anyio.sleep(wait)

    @staticmethod
    def time() -> float:
        return anyio.current_time()


class Tasks:
    """The tasks of one connection: its requests, and whatever the protocol starts."""

    def __init__(self, tasks: TaskGroup, live: dict[object, None]) -> None:
        self._tasks = tasks
        self._live = live

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Begin to answer a request; what comes of it is handed to the returned function."""
        incoming = _Incoming(config.max_app_queue_size)
        self._live[incoming] = None  # from here on, not only once the task runs
        self._tasks.start_soon(self._answer, app, scope, incoming, send)
        return incoming.put

    def spawn(self, func: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Begin a task of the connection."""
        self._tasks.start_soon(_run, func, *args)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: object, exc_value: object, tb: object) -> None:
        """Its task group is somebody else's to close."""

    async def _answer(
        self,
        app: AppWrapper,
        scope: Scope,
        incoming: _Incoming,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        try:
            await app(scope, incoming.receive, send, _no_threads, _no_threads)
        except Exception:
            logger.exception("answering %s failed", scope["type"])
        finally:
            incoming.close()
            del self._live[incoming]
            await send(None)  # noqa: ASYNC102 - not shielded: a server that is cancelled answers nothing


async def _run(func: Callable[..., Awaitable[Any]], *args: Any) -> None:
    await func(*args)


class _Incoming:
    """What a request brings. It never holds up the protocol once nobody listens any more."""

    def __init__(self, size: int) -> None:
        self._into: MemoryObjectSendStream[ASGIReceiveEvent]
        self._into, self._out = anyio.create_memory_object_stream["ASGIReceiveEvent"](size)

    async def put(self, event: ASGIReceiveEvent) -> None:
        if event["type"] == "http.disconnect":
            self._into.close()
            return
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._into.send(event)

    async def receive(self) -> ASGIReceiveEvent:
        try:
            return await self._out.receive()
        except anyio.EndOfStream:
            return {"type": "http.disconnect"}

    def close(self) -> None:
        self._into.close()
        self._out.close()


def _no_threads(*_: object) -> Any:
    raise AssertionError("unreachable: ASGI applications ask for no threads")
