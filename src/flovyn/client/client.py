"""The client: what an application holds to start workflows and to learn how they end."""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from flovyn.client.handle import WorkflowHandle
from flovyn.client.options import StartOptions
from flovyn.definitions import definition_of
from flovyn.errors import ConfigurationError
from flovyn.serde.chain import CodecChain

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Iterable
    from datetime import timedelta

    from flovyn.client.start import Starter
    from flovyn.client.watch import Watch
    from flovyn.definitions import AnyWorkflow
    from flovyn.serde.chain import PayloadCodec
    from flovyn.wire.channel import Channel
    from flovyn.wire.options import ChannelOptions
    from flovyn.wire.transport import Transport

__all__ = ["Client", "connect"]

P = ParamSpec("P")
R = TypeVar("R")


class Client:
    """Talks to a Flovyn server on behalf of one organisation; `connect` makes these.

    A client may be used from any number of tasks at once.

    Args:
        transport: What carries the calls. Closing it is the business of whoever opened it.
        org_id: The organisation, a UUID.
        queue: The queue on which workflows start, and from which workers work, unless they say otherwise.
        dial: How to open another connection to the same server; `transport` itself serves if left out.
        codecs: What payloads go through, in order, before they are sent; and backwards when they are read.
        watch: What waits for results over the transport, which leaves payloads as they are; `Watch` if left out.

    Raises:
        ConfigurationError: `org_id` is not a UUID, or `queue` is empty, or two codecs have one name.
    """

    __slots__ = ("_codecs", "_dial", "_org_id", "_queue", "_starter", "_transport", "_watch")

    def __init__(
        self,
        transport: Transport,
        *,
        org_id: str | uuid.UUID,
        queue: str = "default",
        dial: Callable[[], AbstractAsyncContextManager[Transport]] | None = None,
        codecs: Iterable[PayloadCodec] = (),
        watch: Callable[[Transport, CodecChain], Watch] | None = None,
    ) -> None:
        # Whatever speaks the protocol is loaded only by those who are about to: it takes longer than all the rest.
        from flovyn.client.start import Starter
        from flovyn.client.watch import Watch
        from flovyn.wire.payload_transport import PayloadTransport

        self._codecs = CodecChain(codecs)
        self._transport = PayloadTransport(transport, self._codecs) if self._codecs.names else transport
        self._org_id = _canonical(org_id)
        self._queue = queue
        self._dial = dial or (lambda: nullcontext(transport))
        self._watch = (watch or Watch)(transport, self._codecs)
        self._starter = Starter(self._transport, self._watch, self._org_id, StartOptions(queue=queue))

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

    def options(
        self,
        *,
        queue: str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: timedelta | None = None,
    ) -> Starter:
        """Say how a workflow is to be started; `start` follows on the result.

        Args:
            queue: The queue whose workers run it; the client's if left out.
            idempotency_key: Starting twice with one key starts once: as long as the first one has not failed and the
                key lives, the second start is answered with the first one's handle. At most 255 characters.
            idempotency_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

        Raises:
            ConfigurationError: The queue is empty, or a key or its time to live is outside these limits.

        Example:
            ```python
            handle = await client.options(idempotency_key=f"order-{order.id}").start(place_order, order)
            ```
        """
        from flovyn.client.start import Starter

        options = StartOptions(self._queue if queue is None else queue, idempotency_key, idempotency_ttl)
        return Starter(self._transport, self._watch, self._org_id, options)

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

    def handle(self, workflow: AnyWorkflow[P, R], workflow_id: str) -> WorkflowHandle[R]:
        """A handle on an execution that was started before, by its id. Nothing is sent."""
        definition = definition_of(workflow)
        return WorkflowHandle(self._watch, workflow_id, kind=definition.kind, decode=definition.decode_output)


@asynccontextmanager
async def connect(
    url: str = "http://localhost:9090",
    *,
    org_id: str | uuid.UUID,
    token: str | None = None,
    queue: str = "default",
    ssl_context: ssl.SSLContext | None = None,
    options: ChannelOptions | None = None,
    codecs: Iterable[PayloadCodec] = (),
) -> AsyncGenerator[Client]:
    """Open a client for the length of a block.

    Args:
        url: The server: ``http://host:port`` without encryption, ``https://host:port`` with TLS.
        org_id: The organisation, a UUID.
        token: The token that the server is shown with each call.
        queue: The queue on which workflows start, and from which workers work, unless they say otherwise.
        ssl_context: How to verify the server, if not by the certificates of the system.
        options: Size limits and keepalive of the connection.
        codecs: What payloads go through before they are sent, in order, and backwards when they are read: compression,
            encryption, storage elsewhere (`flovyn.serde.codecs`). The workers of this client use them too.

    The connection itself is made by the first call, and made anew after it was lost.

    Raises:
        ConfigurationError: The URL, the organisation or a combination of the options cannot work; or two codecs have
            one name.

    Example:
        ```python
        async with flovyn.connect("http://localhost:9090", org_id=org_id, token=token) as client:
            handle = await client.start(place_order, order)
            print(await handle.result())
        ```
    """
    from flovyn.wire.channel import Channel

    def dial() -> Channel:
        return Channel(url, token=token, ssl_context=ssl_context, options=options)

    channel = dial()
    client = Client(channel, org_id=org_id, queue=queue, dial=dial, codecs=codecs)
    async with channel:
        yield client


def _canonical(org_id: str | uuid.UUID) -> str:
    try:
        return str(uuid.UUID(str(org_id)))
    except ValueError:
        raise ConfigurationError(f"org_id must be a UUID, not {org_id!r}") from None
