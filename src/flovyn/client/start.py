"""Starting workflows, with the options that a start can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from flovyn.client.handle import SignalledStart, WorkflowHandle
from flovyn.client.handlers import written_signal
from flovyn.definitions import definition_of
from flovyn.definitions.durations import whole_seconds
from flovyn.errors import ConfigurationError, UsageError
from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flovyn.client.gateway import Gateway
    from flovyn.client.options import StartOptions
    from flovyn.definitions import AnyWorkflow, Signal, Workflow

__all__ = ["SignalStarter", "Starter"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Starter:
    """Starts workflows with some options; `Client.options` makes these."""

    __slots__ = ("_gateway", "_options")

    def __init__(self, gateway: Gateway, options: StartOptions) -> None:
        self._gateway = gateway
        self._options = options

    async def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow; see `Client.start`. With an idempotency key, a start whose answer is lost is repeated."""
        definition = _startable(workflow)
        options = self._options
        request = pb.StartWorkflowRequest(
            org_id=self._gateway.org_id,
            workflow_kind=definition.kind,
            input=definition.encode_input(args, kwargs),
            metadata=dict(options.metadata),
            queue=_queue(definition, options),
            priority_seconds=_priority(definition, options),
            workflow_version=options.version or definition.version or None,
            idempotency_key=options.idempotency_key,
            idempotency_key_ttl_seconds=whole_seconds(options.idempotency_key_ttl),
        )
        calls = self._gateway.calls
        call = calls.once if options.idempotency_key is None else calls.repeatedly
        reply = await call(methods.START_WORKFLOW, request)
        return WorkflowHandle(self._gateway, reply.workflow_execution_id, definition)

    async def execute(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a workflow and wait for its result; see `Client.execute`."""
        return await (await self.start(workflow, *args, **kwargs)).result()

    @overload
    def with_signal(self, signal: Signal[T], value: T, /) -> SignalStarter: ...

    @overload
    def with_signal(
        self, signal: Callable[Concatenate[Any, Any, P], Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SignalStarter: ...

    @overload
    def with_signal(self, signal: str, value: object = None, /) -> SignalStarter: ...

    def with_signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> SignalStarter:
        """Send a signal to the workflow that was started with the idempotency key, or to one that is started for it.

        `start` follows on the result. Both are one step on the server: the workflow sees the signal from its beginning.
        One that has ended, in whatever way, is not signalled but followed by a new one.

        Args:
            signal: A `Signal`, its name as text, or the method of the workflow's class that handles it.
            args: What goes with it: one value, or what the method takes after the context.
            kwargs: Likewise, by name.

        Raises:
            ConfigurationError: The options have no idempotency key.

        Example:
            ```python
            cart = client.options(idempotency_key=f"cart-{customer}")
            started = await cart.with_signal(Cart.add, "tea").start(Cart)
            ```
        """
        if self._options.idempotency_key is None:
            raise ConfigurationError(
                "a signal with a start goes to the workflow of an idempotency key: "
                "client.options(idempotency_key=...).with_signal(...)"
            )
        return SignalStarter(self._gateway, self._options, signal, args, kwargs)


class SignalStarter:
    """Signals a workflow and starts it if need be; `Starter.with_signal` makes these."""

    __slots__ = ("_args", "_gateway", "_kwargs", "_options", "_signal")

    def __init__(
        self, gateway: Gateway, options: StartOptions, signal: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._signal = signal
        self._args = args
        self._kwargs = kwargs

    async def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SignalledStart[R]:
        """Signal a workflow, started with these arguments if there is none. It is never signalled twice.

        Args:
            workflow: The `@workflow`.
            *args: What its function takes after the context; it counts only if it is started.
            **kwargs: Likewise, by name.

        Raises:
            PayloadError: An argument, or what goes with the signal, cannot be written.
            UsageError: The workflow's class has no such handler, or the workflow options that only a child can have.
            AlreadyExists: The key stands for something that is no workflow.
            ServerUnavailable: The server cannot be reached; nothing was sent.
            ConnectionLost: The connection broke under way; the signal may have arrived.
        """
        definition = _startable(workflow)
        options = self._options
        name, data = written_signal(definition, self._signal, self._args, self._kwargs)
        request = pb.SignalWithStartWorkflowRequest(
            org_id=self._gateway.org_id,
            workflow_id=options.idempotency_key or "",
            workflow_kind=definition.kind,
            workflow_input=definition.encode_input(args, kwargs),
            queue=_queue(definition, options),
            priority_seconds=_priority(definition, options),
            workflow_version=options.version or definition.version or None,
            metadata=dict(options.metadata),
            signal_name=name,
            signal_value=data,
            idempotency_key_ttl_seconds=whole_seconds(options.idempotency_key_ttl),
        )
        reply = await self._gateway.calls.once(methods.SIGNAL_WITH_START_WORKFLOW, request)
        handle = WorkflowHandle(self._gateway, reply.workflow_execution_id, definition)
        return SignalledStart(handle, created=reply.workflow_created, sequence=reply.signal_event_sequence)


def _startable(workflow: AnyWorkflow[P, R]) -> Workflow[P, R]:
    definition = definition_of(workflow)
    if definition.child_name is not None or definition.on_cancel != "request":
        raise UsageError(
            f"workflow {definition.kind!r} has child_name or on_cancel among its options, which are for a child of "
            "another workflow: leave them out where a client starts it"
        )
    return definition


def _queue(definition: Workflow[..., Any], options: StartOptions) -> str:
    return options.queue if definition.queue is None else definition.queue


def _priority(definition: Workflow[..., Any], options: StartOptions) -> int:
    priority = options.priority if definition.priority is None else definition.priority
    return whole_seconds(priority) or 0
