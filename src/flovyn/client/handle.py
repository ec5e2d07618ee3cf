"""A handle on one execution of a workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from flovyn.client.ending import conclude
from flovyn.client.follow import HistoryFollower
from flovyn.client.handlers import written_query, written_signal
from flovyn.client.history import HistoryEvent, read_history_event
from flovyn.definitions import Promise, checked_name
from flovyn.serde import codec_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from flovyn.client.descriptions import WorkflowDescription, WorkflowSummary
    from flovyn.client.gateway import Gateway
    from flovyn.definitions import Query, Signal, Workflow

__all__ = ["SignalledStart", "WorkflowHandle"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class WorkflowHandle(Generic[R]):
    """One execution of a workflow, as its client sees it.

    `Client.start` and `Client.handle` make these. A handle holds no connection and no state of the execution: it may
    be kept, made again from the id, and used from several tasks.

    What a scope around a call limits is the call: no method has a time limit of its own, and none changes anything
    when its scope is cancelled but what it was to change.
    """

    __slots__ = ("_after", "_gateway", "_id", "_workflow")

    def __init__(self, gateway: Gateway, workflow_id: str, workflow: Workflow[..., R], *, after: int = 0) -> None:
        self._gateway = gateway
        self._id = workflow_id
        self._workflow = workflow
        self._after = after

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.kind} {self._id}>"

    @property
    def id(self) -> str:
        """The id of the execution, a UUID as text."""
        return self._id

    @property
    def kind(self) -> str:
        """The kind of the workflow."""
        return self._workflow.kind

    # --- looking ----------------------------------------------------------------------------

    async def result(self) -> R:
        """Wait for the workflow to end.

        Waiting only reads: a scope that is cancelled around it leaves the workflow running, and a server that goes
        away meanwhile is waited for. Limit the wait with `anyio.fail_after` or `anyio.move_on_after`.

        Returns:
            What the workflow returned.

        Raises:
            WorkflowFailed: It ended with an error; what was raised is its cause. WorkflowTimedOut: it took too long.
            WorkflowCancelled: It was cancelled.
            PayloadError: What it returned does not fit its declared type.
            CodecError: What it returned cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            Unauthenticated: The server does not accept the token.
        """
        ending = await self._gateway.watch.ending(self._id, after=self._after)
        return conclude(ending, workflow_id=self._id, kind=self.kind, decode=self._workflow.decode_output)

    async def describe(self) -> WorkflowDescription[R]:
        """Ask where the workflow stands; over REST.

        Raises:
            ConfigurationError: The client has no `http_url`.
            NotFound: The server knows no such execution.
            CodecError: Something of it cannot be decoded with the codecs of this client.
            ServerUnavailable: The server cannot be reached.
        """
        return await self._gateway.executions.describe(self._id, self._workflow.decode_output)

    async def history(self) -> list[HistoryEvent]:
        """Read everything that has happened to the workflow so far.

        Raises:
            CodecError: Something in it cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached.
        """
        return [read_history_event(event) for event in await self._gateway.watch.events(self._id)]

    def follow(self, *, after: int = 0) -> AsyncIterator[HistoryEvent]:
        """Go through the history as it is written, to the event that ends the workflow.

        As with `result`, a server that goes away meanwhile is waited for.

        Args:
            after: The number of the last event that is not wanted.

        Raises:
            CodecError: Something in it cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.

        Example:
            ```python
            async for event in handle.follow():
                print(event.sequence, event.type)
            ```
        """
        return HistoryFollower(self._gateway.watch, self._id, after=after, ended=self._after)

    def children(self) -> AsyncIterator[WorkflowSummary]:
        """Go through the workflow's children, the oldest first; over REST, page by page.

        Raises:
            ConfigurationError: The client has no `http_url`.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached.
        """
        return self._gateway.executions.children(self._id)

    # --- asking -----------------------------------------------------------------------------

    @overload
    async def query(self, query: Query[T], /, *args: Any, **kwargs: Any) -> T: ...

    @overload
    async def query(self, query: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def query(self, query: str, /, *args: Any, **kwargs: Any) -> Any: ...

    async def query(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the workflow something, wherever it stands, also when it has ended.

        The history is read, and re-enacted here with the workflow's own code; then its class answers. So it works
        against any server, and without a worker, and sees exactly what the workflow has seen: what has happened since
        its last step it does not know of.

        Args:
            query: A `Query`, its name as text, or the method of the class that answers it.
            args: Its arguments.
            kwargs: Likewise, by name.

        Returns:
            The answer, typed by the query.

        Raises:
            UsageError: The workflow has no such query, it is of another kind, or the query tried to change something.
            DefinitionError: The handle was made without the workflow's code.
            QueryFailed: The workflow has not begun yet.
            PayloadError: The arguments do not fit, or the answer cannot be written or read.
            DeterminismError: The code disagrees with the history, or reaches outside.
            CodecError: Something in the history cannot be decoded with the codecs of this client.
            NotFound: The server knows no such execution.
            Exception: What the method raised.

        Example:
            ```python
            done = await handle.query(Import.progress)
            ```
        """
        asked = written_query(self._workflow, query, args, kwargs)
        answer = await self._gateway.queries.ask(self._workflow, self._id, asked.name, asked.args)
        return asked.answer.decode(answer)

    @overload
    async def query_server(self, query: Query[T], /, *args: Any, **kwargs: Any) -> T: ...

    @overload
    async def query_server(
        self, query: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def query_server(self, query: str, /, *args: Any, **kwargs: Any) -> Any: ...

    async def query_server(self, query: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the server something about the workflow, by its own call QueryWorkflow.

        What it answers is the server's business. The embedded one has what the workflow has recorded of its state: the
        value of the key that the query names, or all of it for the name ``state``.

        Args:
            query: A `Query`, its name as text, or a method of the class.
            args: Its arguments.
            kwargs: Likewise, by name.

        Raises:
            QueryFailed: The server knows no answer.
            UsageError: The class has no such query.
            PayloadError: The answer does not fit the query's type.
            NotFound: The server knows no such execution.
        """
        asked = written_query(self._workflow, query, args, kwargs)
        return asked.answer.decode(await self._gateway.queries.ask_server(self._id, asked.name, asked.args))

    # --- acting -----------------------------------------------------------------------------

    @overload
    async def signal(self, signal: Signal[T], value: T, /) -> int: ...

    @overload
    async def signal(
        self, signal: Callable[Concatenate[Any, Any, P], Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> int: ...

    @overload
    async def signal(self, signal: str, value: object = None, /) -> int: ...

    async def signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> int:
        """Send the workflow a signal. It is never sent twice.

        Args:
            signal: A `Signal`, its name as text, or the method of the workflow's class that handles it.
            args: What goes with it: one value, or what the method takes after the context.
            kwargs: Likewise, by name.

        Returns:
            The number of the signal in the history.

        Raises:
            UsageError: The class has no such handler.
            PayloadError: What goes with it cannot be written.
            FailedPrecondition: The workflow has ended.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached; nothing was sent.
            ConnectionLost: The connection broke under way; it may have arrived.

        Example:
            ```python
            await handle.signal(Cart.add, "tea")
            ```
        """
        name, data = written_signal(self._workflow, signal, args, kwargs)
        return await self._gateway.signals.send(self._id, name, data)

    @overload
    async def resolve(self, promise: Promise[T], value: T, /) -> None: ...

    @overload
    async def resolve(self, promise: str, value: object = None, /) -> None: ...

    async def resolve(self, promise: Any, value: Any = None, /) -> None:
        """Give a promise of the workflow its value. Of several who settle it the first one counts.

        Waits until the workflow has made the promise: it may not have come so far.

        Args:
            promise: A `Promise`, or its name as text.
            value: The value.

        Raises:
            PayloadError: The value cannot be written.
            NotFound: The server knows no such execution, or it has ended without making the promise.
            FailedPrecondition: The workflow has ended without waiting for the promise.

        Example:
            ```python
            await handle.resolve(Promise[bool]("approval"), True)
            ```
        """
        name, codec = _promise(promise)
        data = codec.encode(value)
        promises = self._gateway.promises
        await promises.resolve(await promises.find(self._id, name), data)

    async def reject(self, promise: Promise[Any] | str, error: str | Exception, /) -> None:
        """Give a promise of the workflow an error, which whoever waits for it gets as `PromiseRejected`.

        Waits until the workflow has made the promise: it may not have come so far.

        Args:
            promise: A `Promise`, or its name as text.
            error: A text, or an exception, which keeps its type and its causes.

        Raises:
            NotFound: The server knows no such execution, or it has ended without making the promise.
            FailedPrecondition: The workflow has ended without waiting for the promise.
        """
        promises = self._gateway.promises
        await promises.reject(await promises.find(self._id, _promise(promise)[0]), error)

    async def cancel(self, reason: str = "") -> None:
        """Ask the workflow to stop; over REST. It is never asked twice by one call.

        A workflow that runs in this SDK ends by itself, after what it has to clean up. One that is asked a second time
        is ended by the server, whatever it is doing.

        Args:
            reason: Why; the workflow sees it as `cancel_reason`.

        Raises:
            ConfigurationError: The client has no `http_url`.
            FailedPrecondition: The workflow has ended, or is not cancellable.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached; nothing was asked.
            ConnectionLost: The connection broke under way; it may have been asked.
        """
        await self._gateway.executions.cancel(self._id, reason)

    async def retry(self, note: str = "") -> WorkflowHandle[R]:
        """Let the workflow go on from where it failed; over REST. It is never retried twice by one call.

        Args:
            note: Why, for whoever looks at it later.

        Returns:
            A handle whose `result` is that of the retried run. (That of this one stays the failure until a worker has
            gone on.)

        Raises:
            ConfigurationError: The client has no `http_url`.
            FailedPrecondition: The workflow has not failed, or cannot go on.
            NotFound: The server knows no such execution.
            ServerUnavailable: The server cannot be reached; nothing was retried.
            ConnectionLost: The connection broke under way; it may have been retried.
        """
        last = await self._gateway.watch.last(self._id)
        await self._gateway.executions.retry(self._id, note)
        return WorkflowHandle(self._gateway, self._id, self._workflow, after=last)


@dataclass(frozen=True, slots=True)
class SignalledStart(Generic[R]):
    """What became of a signal with a start.

    Attributes:
        handle: The execution that got the signal.
        created: Whether it was started for the signal; if not, there was one.
        sequence: The number of the signal in its history.
    """

    handle: WorkflowHandle[R]
    created: bool
    sequence: int


def _promise(promise: Promise[Any] | str) -> tuple[str, Any]:
    if isinstance(promise, Promise):
        return promise.name, promise.codec
    return checked_name("promise", promise), codec_for(Any)
