"""Handles of what was begun and not waited for: a task, a child workflow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from flovyn.replay.waits import waits_for_child, waits_for_task
from flovyn.workflow.failures import child_error, task_error
from flovyn.workflow.waiting import enter, seen_off, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flovyn.definitions import OnCancel, Task, Workflow
    from flovyn.nursery.kernel import Kernel
    from flovyn.replay import Event, Execution
    from flovyn.replay.children import Child
    from flovyn.replay.settlements import Settlement

__all__ = ["ChildHandle", "TaskHandle"]

R_co = TypeVar("R_co", covariant=True)


class _Handle(ABC, Generic[R_co]):
    """What both sorts have in common.

    It stands in the scope in which it was made: when that one is cancelled, so is the work, unless `on_cancel` says
    otherwise. When that scope is left, it stands in the one around it.
    """

    __slots__ = ("_execution", "_give_up", "_on_cancel", "_settlement", "_text", "_watch")

    def __init__(
        self,
        execution: Execution,
        settlement: Settlement,
        *,
        text: str,
        on_cancel: OnCancel,
        give_up: Callable[[], None],
    ) -> None:
        self._execution = execution
        self._settlement = settlement
        self._text = text
        self._on_cancel = on_cancel
        self._give_up = give_up
        current = execution.kernel.current
        # No task makes the call only where the run was evicted; there nothing is cancelled any more.
        self._watch = None if current is None else current.scope.watch(self._cancelled)

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self.result().__await__()

    @abstractmethod
    async def result(self) -> R_co: ...

    def cancel(self) -> None:
        """Ask the work to end, whatever `on_cancel` says; `result` then tells how it did. A second call is nothing."""
        self._stop_watching()
        self._give_up()

    def _cancelled(self) -> None:
        if self._on_cancel != "abandon":
            self._give_up()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    @property
    def _stays(self) -> bool:
        """Whether a cancelled wait goes on: the handle's own scope is cancelled, and the work is to be seen off."""
        return self._on_cancel == "wait" and self._watch is not None and self._watch.reached

    async def _ended(self) -> Event:
        kernel = self._execution.kernel
        if not self._stays:
            await enter(self._execution, "wait")
        if self._settlement.event is not None:
            await _step(kernel, shielded=self._stays)
        event = await settled(self._execution, self._settlement, self._text, lambda: not self._stays)
        self._stop_watching()
        return event


async def _step(kernel: Kernel, *, shielded: bool) -> None:
    """Nothing is waited for, but no loop around a wait may go on unseen."""
    await (kernel.cancel_shielded_checkpoint() if shielded else kernel.checkpoint())


@final
class TaskHandle(_Handle[R_co]):
    """A task that runs somewhere, and its result to come; `ctx.schedule_async` makes these.

    The task belongs to the scope that was around the call: when that is cancelled, so is the task. Waiting for it
    anywhere else only reads. `await handle` is `await handle.result()`.
    """

    __slots__ = ("_task", "task_id")

    def __init__(self, execution: Execution, task: Task[..., R_co], task_id: str) -> None:
        self._task = task
        self.task_id: str = task_id
        super().__init__(
            execution,
            execution.settlements.get(task_id),
            text=waits_for_task(task_id),
            on_cancel=task.on_cancel,
            give_up=lambda: execution.tasks.give_up(task_id),
        )

    def __repr__(self) -> str:
        return f"<TaskHandle {self._task.kind} {self.task_id}>"

    async def result(self) -> R_co:
        """Wait for the task; as often, and from as many places, as you like.

        Raises:
            PayloadError: The result does not fit the task's return type.
            TaskFailed: The task failed, after all its attempts.
            TaskCancelled: It was cancelled: by `cancel`, by its scope, or by somebody else.
            TaskTimeout: It was over a time limit.
        """
        event = await self._ended()
        if event.type == "TASK_COMPLETED":
            return self._task.decode_output(bytes(event.data.output))
        raise await seen_off(self._execution, task_error(event, self._task.kind), stays=self._stays)


@final
class ChildHandle(_Handle[R_co]):
    """A child workflow, and its result to come; `ctx.schedule_workflow_async` makes these.

    The child belongs to the scope that was around the call: when that is cancelled, so is the child. Waiting for it
    anywhere else only reads. `await handle` is `await handle.result()`.

    Attributes:
        name: Its name among the children of this workflow.
        workflow_id: Its execution id, by which a client finds it.
    """

    __slots__ = ("_child", "_workflow", "name", "workflow_id")

    def __init__(self, execution: Execution, workflow: Workflow[..., R_co], child: Child) -> None:
        self._workflow = workflow
        self._child = child
        self.name: str = child.name
        self.workflow_id: str = child.id
        super().__init__(
            execution,
            execution.children.settlement(child),
            text=waits_for_child(child.name),
            on_cancel=workflow.on_cancel,
            give_up=lambda: execution.children.give_up(child),
        )

    def __repr__(self) -> str:
        return f"<ChildHandle {self._workflow.kind} {self.name} {self.workflow_id}>"

    async def result(self) -> R_co:
        """Wait for the child; as often, and from as many places, as you like.

        Raises:
            PayloadError: The result does not fit the workflow's return type.
            ChildWorkflowFailed: The child failed.
            ChildWorkflowCancelled: It was cancelled: by `cancel`, by its scope, or by somebody else.
        """
        event = await self._ended()
        if event.type == "CHILD_WORKFLOW_COMPLETED":
            return self._workflow.decode_output(bytes(event.data.output))
        error = child_error(event, self._child, self._workflow.kind)
        raise await seen_off(self._execution, error, stays=self._stays)
