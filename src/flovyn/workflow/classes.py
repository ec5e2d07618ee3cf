"""Running a workflow that is a class: an instance, the handlers of its signals, and its `run`."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from flovyn.errors import PayloadError
from flovyn.nursery._group import TaskGroup
from flovyn.serde.envelope import members_of

if TYPE_CHECKING:
    from flovyn.definitions import ClassParts, Handler
    from flovyn.replay import Execution

__all__ = ["run_class"]


async def run_class(
    execution: Execution, context: object, instance: Any, parts: ClassParts, args: Any, kwargs: Any
) -> Any:
    """Run an instance in a nursery with the handlers of its signals.

    Signals that have come already are there first, and in the order in which they came. An error of `run`, or of a
    handler, cancels the rest and is raised as itself.
    """
    only: BaseException | None = None
    group = TaskGroup()
    run: anyio.TaskHandle[Any] | None = None
    try:
        async with group:
            # The context variables of the workflow, not those of whoever delivers the signal.
            variables = copy_context()

            def start(handler: Handler, data: bytes) -> None:
                coroutine = _handle(instance, handler, context, data)
                group.run_task(anyio.TaskHandle(coroutine, f"signal {handler.name}"), variables.copy())

            execution.signals.handle({name: partial(start, handler) for name, handler in parts.signals.items()})
            run = group.create_task(instance.run(context, *args, **kwargs), name="run")
    except BaseExceptionGroup as errors:
        members = list(members_of(errors))
        if len(members) > 1:
            raise
        only = members[0]
    # Outside the handler, so that the group does not become the context of what it held.
    if only is not None:
        try:
            raise only
        finally:
            del only
    assert run is not None
    return run.return_value


async def _handle(instance: Any, handler: Handler, context: object, data: bytes) -> None:
    try:
        args, kwargs = handler.signature.decode(data)
    except PayloadError as error:
        raise PayloadError(f"signal {handler.name!r}: {error.message}", path=error.path) from None
    await getattr(instance, handler.method)(context, *args, **kwargs)
