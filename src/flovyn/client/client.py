"""The client: what an application holds to start workflows and to learn how they end."""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from flovyn.client.handle import WorkflowHandle
from flovyn.client.options import StartOptions, SubmitOptions, as_timedelta
from flovyn.client.submitted import SubmittedTask
from flovyn.definitions import definition_of, task_of
from flovyn.errors import ConfigurationError, UsageError
from flovyn.serde.chain import CodecChain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from datetime import datetime, timedelta

    from flovyn.client.calls import Calls
    from flovyn.client.descriptions import TaskStatus, TaskSummary, WorkflowStatus, WorkflowSummary
    from flovyn.client.rest import Rest
    from flovyn.client.start import Starter
    from flovyn.client.submit import Submitter
    from flovyn.client.watch import Watch
    from flovyn.definitions import AnyTask, AnyWorkflow, Promise, RetryPolicy
    from flovyn.serde.chain import PayloadCodec
    from flovyn.wire.transport import Transport

__all__ = ["Client", "canonical"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Talks to a Flovyn server on behalf of one organisation; `connect` makes these.

    A client may be used from any number of tasks at once.

    Args:
        transport: What carries the calls. Closing it is the business of whoever opened it.
        org_id: The organisation, a UUID.
        queue: The queue on which workflows start, and from which workers work, unless they say otherwise.
        dial: How to open another connection to the same server; `transport` itself serves if left out.
        codecs: What payloads go through, in order, before they are sent; and backwards when they are read.
        rest: What carries requests to the server's REST interface; without it, what needs that raises
            `ConfigurationError`.
        retry: How often calls are made that can be made again; eight times if left out.
        watch: What waits for events of histories; `Watch` if left out.

    Raises:
        ConfigurationError: `org_id` is not a UUID, or `queue` is empty, or two codecs have one name.
    """

    __slots__ = ("_codecs", "_dial", "_gateway", "_org_id", "_queue", "_starter", "_submitter", "_transport")

    def __init__(
        self,
        transport: Transport,
        *,
        org_id: str | uuid.UUID,
        queue: str = "default",
        dial: Callable[[], AbstractAsyncContextManager[Transport]] | None = None,
        codecs: Iterable[PayloadCodec] = (),
        rest: Rest | None = None,
        retry: RetryPolicy | None = None,
        watch: Callable[[Calls, CodecChain], Watch] | None = None,
    ) -> None:
        # Whatever speaks the protocol is loaded only by those who are about to: it takes longer than all the rest.
        from flovyn.client.opening import open_gateway
        from flovyn.client.start import Starter
        from flovyn.client.submit import Submitter
        from flovyn.wire.payload_transport import PayloadTransport

        self._codecs = CodecChain(codecs)
        self._transport = PayloadTransport(transport, self._codecs) if self._codecs.names else transport
        self._org_id = canonical(org_id)
        self._queue = queue
        self._dial = dial or (lambda: nullcontext(transport))
        self._gateway = open_gateway(
            self._transport,
            bare=transport,
            org_id=self._org_id,
            queue=queue,
            codecs=self._codecs,
            rest=rest,
            retry=retry,
            watch=watch,
        )
        self._starter = Starter(self._gateway, StartOptions(queue=queue))
        self._submitter = Submitter(self._gateway, SubmitOptions(queue=queue))

    def __repr__(self) -> str:
        return f"<Client org_id={self._org_id} queue={self._queue!r}>"

    @property
    def transport(self) -> Transport:
        """What carries the calls; payloads go through the codecs on their way."""
        return self._transport

    @property
    def codecs(self) -> CodecChain:
        """What payloads go through; an empty chain if nothing was said."""
        return self._codecs

    @property
    def org_id(self) -> str:
        """The organisation, a UUID as text."""
        return self._org_id

    @property
    def queue(self) -> str:
        """The queue that is used where none is named."""
        return self._queue

    def connection(self) -> AbstractAsyncContextManager[Transport]:
        """Another connection to the same server, for the length of a block; it knows nothing of codecs.

        A worker takes one for itself: the server frees at once what was claimed over a connection that closes.
        """
        return self._dial()

    # --- workflows --------------------------------------------------------------------------

    def options(
        self,
        *,
        queue: str | None = None,
        priority: timedelta | float | None = None,
        version: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        idempotency_key_ttl: timedelta | float | None = None,
    ) -> Starter:
        """Say how workflows are to be started; `start`, `execute` or `with_signal` follow on the result.

        Args:
            queue: The queue whose workers run it; the client's if left out.
            priority: How much older than it is it counts when workers choose what comes first, in seconds or as a
                timedelta; negative for younger.
            version: The version of the code; that of the definition if left out.
            metadata: What is to be remembered with it, for people and tools. It is not encoded by codecs.
            idempotency_key: Starting twice with one key starts once: as long as the first one has not failed and the
                key lives, the second start is answered with the first one's handle. At most 255 characters.
            idempotency_key_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

        Raises:
            ConfigurationError: One of them cannot work; the message names it.

        Example:
            ```python
            handle = await client.options(idempotency_key=f"order-{order.id}").start(place_order, order)
            ```
        """
        from flovyn.client.start import Starter

        options = StartOptions(
            queue=self._queue if queue is None else queue,
            priority=as_timedelta("priority", priority),
            version=version,
            metadata={} if metadata is None else metadata,
            idempotency_key=idempotency_key,
            idempotency_key_ttl=as_timedelta("idempotency_key_ttl", idempotency_key_ttl),
        )
        return Starter(self._gateway, options)

    async def start(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a workflow. It runs whether or not anybody waits for it.

        Args:
            workflow: The `@workflow`, a function or a class; or a `workflow_by_kind`, if it is defined elsewhere.
                What its own `options` say about queue and priority counts for more than what the client's say.
            *args: What its function takes after the context.
            **kwargs: Likewise, by name.

        Returns:
            A handle on the execution, typed by what the workflow returns.

        Raises:
            PayloadError: An argument cannot be written as a payload.
            UsageError: The workflow has options that only a child can have.
            ServerUnavailable: The server cannot be reached; nothing was started.
            ConnectionLost: The connection broke under way; it may have been started. Start it again with the same
                idempotency key (see `options`) to be sure that it runs once.

        Example:
            ```python
            handle = await client.start(place_order, order)
            receipt = await handle.result()
            ```
        """
        return await self._starter.start(workflow, *args, **kwargs)

    async def execute(self, workflow: AnyWorkflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a workflow and wait for its result.

        It runs on when a scope around this is cancelled; `start` gives a handle to cancel it by.

        Args:
            workflow: As for `start`.
            *args: What its function takes after the context.
            **kwargs: Likewise, by name.

        Returns:
            What the workflow returned.

        Raises:
            FlovynError: As `start`, and then as `WorkflowHandle.result`.

        Example:
            ```python
            receipt = await client.execute(place_order, order)
            ```
        """
        return await self._starter.execute(workflow, *args, **kwargs)

    def handle(self, workflow: AnyWorkflow[P, R], workflow_id: str) -> WorkflowHandle[R]:
        """A handle on an execution that was started before, by its id. Nothing is sent."""
        return WorkflowHandle(self._gateway, workflow_id, definition_of(workflow))

    def workflows(
        self, *, status: WorkflowStatus | None = None, kind: str | None = None, queue: str | None = None
    ) -> AsyncIterator[WorkflowSummary]:
        """Go through the workflows of the organisation, the newest first; over REST, page by page.

        What is started meanwhile may or may not be among them; none is given twice.

        Args:
            status: Only those that stand there.
            kind: Only those of that kind.
            queue: Only those of that queue.

        Raises:
            ConfigurationError: The client has no `http_url`.
            PermissionDenied: The key is not good for this; REST takes a user key.
            ServerUnavailable: The server cannot be reached.

        Example:
            ```python
            async for found in client.workflows(kind=place_order.kind, status="FAILED"):
                await client.handle(place_order, found.id).retry()
            ```
        """
        return self._gateway.executions.listed(status=status, kind=kind, queue=queue)

    # --- promises ---------------------------------------------------------------------------

    async def resolve(
        self,
        promise: Promise[T],
        value: T,
        /,
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
    ) -> None:
        """Give a promise its value, by its id or by its key. Of several who settle it the first one counts.

        A promise whose workflow is known is resolved more easily by `WorkflowHandle.resolve`.

        Args:
            promise: What it is called and what it carries.
            value: The value.
            id: The promise's id, as the history of its workflow has it.
            key: Its key, as `PromiseHandle.key` tells it; over REST.

        Raises:
            UsageError: Neither id nor key is given, or both.
            PayloadError: The value cannot be written.
            ConfigurationError: It is to go by key, and the client has no `http_url`.
            NotFound: The server knows no such promise.
            FailedPrecondition: Its workflow has ended without it.

        Example:
            ```python
            await client.resolve(approval, True, key=key_from_the_mail)
            ```
        """
        where = _where(promise, id, key)
        data = promise.codec.encode(value)
        if where.key is None:
            await self._gateway.promises.resolve(where.id, data)
        else:
            await self._gateway.promises.resolve_by_key(promise.name, where.key, data)

    async def reject(
        self,
        promise: Promise[Any],
        error: str | Exception,
        /,
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
    ) -> None:
        """Give a promise an error, by its id or by its key; see `resolve`.

        Args:
            promise: What it is called.
            error: A text, or an exception, which keeps its type and its causes.
            id: The promise's id.
            key: Its key; over REST.

        Raises:
            UsageError: Neither id nor key is given, or both.
            ConfigurationError: It is to go by key, and the client has no `http_url`.
            NotFound: The server knows no such promise.
            FailedPrecondition: Its workflow has ended without it.
        """
        where = _where(promise, id, key)
        if where.key is None:
            await self._gateway.promises.reject(where.id, error)
        else:
            await self._gateway.promises.reject_by_key(promise.name, where.key, error)

    # --- tasks that stand alone -------------------------------------------------------------

    def submit_options(
        self,
        *,
        queue: str | None = None,
        scheduled_at: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Submitter:
        """Say how tasks are to be submitted; `submit` follows on the result.

        Time limits, retries and the idempotency key are the task's own options: `charge.options(idempotency_key=...)`.

        Args:
            queue: The queue whose workers run it, unless the task says otherwise; the client's if left out.
            scheduled_at: Nobody gets it before this moment, aware of its time zone; over REST.
            metadata: What is to be remembered with it, for people and tools. It is not encoded by codecs.

        Raises:
            ConfigurationError: One of them cannot work; the message names it.
        """
        from flovyn.client.submit import Submitter

        options = SubmitOptions(
            queue=self._queue if queue is None else queue,
            scheduled_at=scheduled_at,
            metadata={} if metadata is None else metadata,
        )
        return Submitter(self._gateway, options)

    async def submit(self, task: AnyTask[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SubmittedTask[R]:
        """Submit a task that belongs to no workflow. It runs whether or not anybody waits for it.

        Args:
            task: The `@task`, a function or a class; or a `task_by_kind`, if it is defined elsewhere.
            *args: What its function takes after the context.
            **kwargs: Likewise, by name.

        Returns:
            A handle on it, typed by what the task returns.

        Raises:
            PayloadError: An argument cannot be written as a payload.
            UsageError: The task has options that only the task of a workflow can have.
            ServerUnavailable: The server cannot be reached; nothing was submitted.
            ConnectionLost: The connection broke under way; it may have been submitted. Submit it again with the same
                idempotency key, one of the task's options, to be sure that it runs once.

        Example:
            ```python
            submitted = await client.submit(charge, order)
            payment = await submitted.result()
            ```
        """
        return await self._submitter.submit(task, *args, **kwargs)

    def task_handle(self, task: AnyTask[P, R], task_id: str) -> SubmittedTask[R]:
        """A handle on a task that was submitted before, by its id. Nothing is sent."""
        return SubmittedTask(self._gateway, task_id, task_of(task))

    def tasks(
        self, *, status: TaskStatus | None = None, kind: str | None = None, queue: str | None = None
    ) -> AsyncIterator[TaskSummary]:
        """Go through the tasks of the organisation that stand alone, the newest first; over REST, page by page.

        Args:
            status: Only those that stand there.
            kind: Only those of that kind.
            queue: Only those of that queue.

        Raises:
            ConfigurationError: The client has no `http_url`.
            PermissionDenied: The key is not good for this; REST takes a user key.
            ServerUnavailable: The server cannot be reached.
        """
        return self._gateway.tasks.listed(status=status, kind=kind, queue=queue)


class _Where(NamedTuple):
    id: str
    key: str | None


def _where(promise: Promise[Any], id: str | None, key: str | None) -> _Where:  # noqa: A002
    if (id is None) == (key is None):
        both = "both are given" if id is not None else "neither is given"
        raise UsageError(f"{promise!r} is to be found by its id or by its key, and {both}: pass id=... or key=...")
    return _Where("" if id is None else id, key)


def canonical(org_id: str | uuid.UUID) -> str:
    """The id of an organisation, as the wire has it.

    Raises:
        ConfigurationError: It is no UUID.
    """
    try:
        return str(uuid.UUID(str(org_id)))
    except ValueError:
        raise ConfigurationError(f"org_id must be a UUID, not {org_id!r}") from None
