"""Submitting tasks that stand alone, with the options that a submission can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flovyn.client.submitted import SubmittedTask
from flovyn.definitions import task_of
from flovyn.errors import UsageError

if TYPE_CHECKING:
    from flovyn.client.gateway import Gateway
    from flovyn.client.options import SubmitOptions
    from flovyn.definitions import AnyTask, Task

__all__ = ["Submitter"]

P = ParamSpec("P")
R = TypeVar("R")


class Submitter:
    """Submits tasks with some options; `Client.submit_options` makes these."""

    __slots__ = ("_gateway", "_options")

    def __init__(self, gateway: Gateway, options: SubmitOptions) -> None:
        self._gateway = gateway
        self._options = options

    async def submit(self, task: AnyTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SubmittedTask[R]:
        """Submit a task; see `Client.submit`. With an idempotency key, one whose answer is lost is repeated."""
        definition = task_of(task)
        _check(definition)
        data = definition.encode_input(args, kwargs)
        task_id = await self._gateway.tasks.submit(definition, data, self._options)
        return SubmittedTask(self._gateway, task_id, definition)


def _check(task: Task[..., Any]) -> None:
    """Refuse options that would not be kept: they are for the tasks of workflows."""
    # What is not cancellable is left alone by scopes, without having been told so.
    if task.priority is not None or task.on_cancel != ("request" if task.cancellable else "abandon"):
        raise UsageError(
            f"task {task.kind!r} has priority or on_cancel among its options, which are for the tasks of a workflow: "
            "leave them out where a client submits it"
        )
