"""Starting workflows and submitting tasks with options, from threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from flovyn.blocking.handle import SignalledStart, WorkflowHandle
from flovyn.blocking.submitted import SubmittedTask

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flovyn.blocking.portal import Portal
    from flovyn.client.start import SignalStarter as AsyncSignalStarter
    from flovyn.client.start import Starter as AsyncStarter
    from flovyn.client.submit import Submitter as AsyncSubmitter
    from flovyn.definitions import AnyTask, AnyWorkflow, Signal

__all__ = ["SignalStarter", "Starter", "Submitter"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Starter:
    """Starts workflows with some options; `Client.options` makes these."""

    __slots__ = ("_portal", "_starter")

    def __init__(self, portal: Portal, starter: AsyncStarter) -> None:
        self._portal = portal
        self._starter = starter

    def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow, as `flovyn.Client.start` does."""
        handle = self._portal.call(lambda: self._starter.start(workflow, *args, **kwargs))
        return WorkflowHandle(self._portal, handle)

    def execute(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a workflow and wait for its result, as `flovyn.Client.execute` does."""
        return self._portal.call(lambda: self._starter.execute(workflow, *args, **kwargs))

    @overload
    def with_signal(self, signal: Signal[T], value: T, /) -> SignalStarter: ...

    @overload
    def with_signal(
        self, signal: Callable[Concatenate[Any, Any, P], Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SignalStarter: ...

    @overload
    def with_signal(self, signal: str, value: object = None, /) -> SignalStarter: ...

    def with_signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> SignalStarter:
        """Send a signal with the start, as `with_signal` of `flovyn.Client.options` does; `start` follows."""
        return SignalStarter(self._portal, self._starter.with_signal(signal, *args, **kwargs))


class SignalStarter:
    """Signals a workflow and starts it if need be; `Starter.with_signal` makes these."""

    __slots__ = ("_portal", "_starter")

    def __init__(self, portal: Portal, starter: AsyncSignalStarter) -> None:
        self._portal = portal
        self._starter = starter

    def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SignalledStart[R]:
        """Signal a workflow, started with these arguments if there is none."""
        started = self._portal.call(lambda: self._starter.start(workflow, *args, **kwargs))
        handle = WorkflowHandle(self._portal, started.handle)
        return SignalledStart(handle, created=started.created, sequence=started.sequence)


class Submitter:
    """Submits tasks with some options; `Client.submit_options` makes these."""

    __slots__ = ("_portal", "_submitter")

    def __init__(self, portal: Portal, submitter: AsyncSubmitter) -> None:
        self._portal = portal
        self._submitter = submitter

    def submit(self, task: AnyTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SubmittedTask[R]:
        """Submit a task that belongs to no workflow, as `flovyn.Client.submit` does."""
        submitted = self._portal.call(lambda: self._submitter.submit(task, *args, **kwargs))
        return SubmittedTask(self._portal, submitted)
