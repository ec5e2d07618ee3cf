"""A channel against grpcio's server, and with TLS against strangers' certificates."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import grpc
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from flovyn import errors
from flovyn.server.acceptor import serve
from flovyn.wire.channel import Channel
from flovyn.wire.options import ChannelOptions
from wire.peers import COUNT, ECHO, HANG, JOIN, Service, until

pytestmark = pytest.mark.anyio


class Foreign:
    """grpcio's synchronous server."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.release = threading.Event()
        self.hanging = 0

    def echo(self, request: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        if status := metadata.get("fail"):
            context.set_code(grpc.StatusCode[status])
            context.set_details("Größe: 100 %")
            return b""
        context.send_initial_metadata([("flovyn-claim", metadata.get("flovyn-claim", "none"))])
        return request

    def hang(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.cancelled.set)
        self.hanging += 1
        self.release.wait(10)
        return request

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for index in range(int(request)):
            yield b"%d" % index

    def join(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"".join(requests)

    @contextlib.contextmanager
    def serving(self, **options: int) -> Generator[tuple[str, Any]]:
        server = grpc.server(
            ThreadPoolExecutor(8), options=[(f"grpc.{name}", value) for name, value in options.items()]
        )
        handlers: dict[str, Any] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Join": grpc.stream_unary_rpc_method_handler(self.join),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}", server
        finally:
            self.release.set()
            server.stop(None).wait(5)


async def test_all_shapes_and_metadata() -> None:
    with anyio.fail_after(10), Foreign().serving() as (url, _):
        async with Channel(url, token="fwt_1") as channel:
            reply = await channel.unary(ECHO, b"1", metadata={"flovyn-claim": "a"})
            assert reply.message == b"1"
            assert reply.metadata["flovyn-claim"] == "a"
            async with channel.server_stream(COUNT, b"300") as replies:
                assert [reply async for reply in replies] == [b"%d" % index for index in range(300)]

            async def parts() -> AsyncIterator[bytes]:
                for index in range(300):
                    yield b"%d" % index

            joined = await channel.client_stream(JOIN, parts())
            assert joined.message == b"".join(b"%d" % index for index in range(300))
            data = b"." * 3_000_000
            assert (await channel.unary(ECHO, data)).message == data


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("INVALID_ARGUMENT", errors.InvalidArgument),
        ("NOT_FOUND", errors.NotFound),
        ("UNAUTHENTICATED", errors.Unauthenticated),
        ("UNAVAILABLE", errors.ServerUnavailable),
        ("RESOURCE_EXHAUSTED", errors.ResourceExhausted),
        ("DATA_LOSS", errors.ServerError),
    ],
)
async def test_refusals(status: str, kind: type[errors.FlovynError]) -> None:
    with anyio.fail_after(10), Foreign().serving() as (url, _):
        async with Channel(url) as channel:
            with pytest.raises(kind) as caught:
                await channel.unary(ECHO, b"", metadata={"fail": status})
    assert type(caught.value) is kind
    assert caught.value.message == "Größe: 100 %"
    assert getattr(caught.value, "status", status) == status


async def test_unknown_methods_and_messages_too_large_for_it() -> None:
    with anyio.fail_after(10), Foreign().serving(max_receive_message_length=1_000) as (url, _):
        async with Channel(url) as channel:
            with pytest.raises(errors.Unimplemented):
                await channel.unary(_other(), b"")
            with pytest.raises(errors.ServerError) as caught:
                await channel.unary(ECHO, b"." * 1_001)
            assert caught.value.status == "RESOURCE_EXHAUSTED"
            assert (await channel.unary(ECHO, b"." * 1_000)).message == b"." * 1_000


def _other() -> Any:
    return type(ECHO)("/test.Test/Other", bytes, bytes, ECHO.shape)


async def test_cancelling_reaches_it() -> None:
    foreign = Foreign()
    with anyio.fail_after(10), foreign.serving() as (url, _):
        async with Channel(url) as channel:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(channel.unary, HANG, b"")
                await until(lambda: foreign.hanging == 1)
                tasks.cancel_scope.cancel()
            await until(foreign.cancelled.is_set)
            assert (await channel.unary(ECHO, b"1")).message == b"1"
            assert channel.statistics().connections_opened == 1


async def test_a_server_that_counts_streams_later_than_http_does() -> None:
    """It really refuses streams here, though never more than eight are open on the wire."""

    async def calls(channel: Channel, index: int) -> None:
        for turn in range(5):
            data = b"%d/%d" % (index, turn)
            assert (await channel.unary(ECHO, data)).message == data

    with anyio.fail_after(30), Foreign().serving(max_concurrent_streams=8) as (url, _):
        async with Channel(url) as channel:
            async with anyio.create_task_group() as tasks:
                for index in range(200):
                    tasks.start_soon(calls, channel, index)
            statistics = channel.statistics()
            assert (statistics.calls_succeeded, statistics.calls_failed) == (1_000, 0)
            assert statistics.connections_opened == 1


async def test_a_graceful_stop_lets_calls_finish() -> None:
    foreign = Foreign()
    with anyio.fail_after(10), foreign.serving() as (url, server):
        async with Channel(url) as channel, anyio.create_task_group() as tasks:
            replies: list[bytes] = []

            async def hang() -> None:
                replies.append((await channel.unary(HANG, b"late")).message)

            tasks.start_soon(hang)
            await until(lambda: foreign.hanging == 1)
            server.stop(10)
            with pytest.raises(errors.ServerUnavailable):
                while True:
                    with contextlib.suppress(errors.ServerError):  # it says CANCELLED until its GOAWAY is out
                        await channel.unary(ECHO, b"")
            foreign.release.set()
        assert replies == [b"late"]


async def test_pings_are_answered_by_it_without_anger() -> None:
    """Not more often than it allows by default, that is."""
    with (
        anyio.fail_after(10),
        Foreign().serving(
            **{
                "http2.min_ping_interval_without_data_ms": 10,
                "http2.min_recv_ping_interval_without_data_ms": 10,
                "keepalive_permit_without_calls": 1,
                "http2.max_ping_strikes": 0,
            }
        ) as (url, _),
    ):
        async with Channel(url, options=ChannelOptions(keepalive_interval=0.02, keepalive_timeout=2)) as channel:
            await channel.unary(ECHO, b"")
            began = time.monotonic()
            await until(lambda: time.monotonic() - began > 0.3)
            await channel.unary(ECHO, b"")
            assert channel.statistics().connections_opened == 1


# --- TLS ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def secure(alpn: list[str], *names: str) -> AsyncGenerator[tuple[int, Any, Service]]:
    """Our acceptor behind TLS; gives its port, the authority and the service."""
    authority: Any = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(alpn)
    service = Service()
    plain: Any = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    listener = TLSListener(plain, context, standard_compatible=False)
    async with anyio.create_task_group() as tasks:

        async def start(*, task_status: Any) -> None:
            await serve(service.routes, listener, task_status=task_status)

        await tasks.start(start)
        yield plain.extra(SocketAttribute.local_port), authority, service
        tasks.cancel_scope.cancel()


def trusting(authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls() -> None:
    with anyio.fail_after(10):
        async with secure(["h2"], "localhost", "127.0.0.1") as (port, authority, service):
            for host in ("localhost", "127.0.0.1"):
                async with Channel(f"https://{host}:{port}", ssl_context=trusting(authority), token="t") as channel:
                    data = b"." * 1_000_000
                    assert (await channel.unary(ECHO, data)).message == data
            assert service.calls[0].metadata["authorization"] == "Bearer t"


async def test_tls_with_a_certificate_nobody_trusts() -> None:
    with anyio.fail_after(10):
        async with secure(["h2"], "localhost") as (port, _, __), Channel(f"https://localhost:{port}") as channel:
            with pytest.raises(
                errors.ServerUnavailable, match=r"cannot connect to https://localhost:.*CERTIFICATE_VERIFY_FAILED"
            ):
                await channel.unary(ECHO, b"")


async def test_tls_with_a_certificate_for_somebody_else() -> None:
    with anyio.fail_after(10):
        async with secure(["h2"], "example.org") as (port, authority, _):
            async with Channel(f"https://localhost:{port}", ssl_context=trusting(authority)) as channel:
                with pytest.raises(errors.ServerUnavailable, match=r"Hostname mismatch"):
                    await channel.unary(ECHO, b"")


async def test_tls_without_http2() -> None:
    with anyio.fail_after(10):
        async with secure([], "localhost") as (port, authority, _):
            async with Channel(f"https://localhost:{port}", ssl_context=trusting(authority)) as channel:
                with pytest.raises(errors.MalformedMessage, match=r"does not offer HTTP/2 over TLS \(ALPN says None\)"):
                    await channel.unary(ECHO, b"")


async def test_tls_spoken_to_a_server_without() -> None:
    service = Service()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:

            async def start(*, task_status: Any) -> None:
                await serve(service.routes, ("127.0.0.1", 0), task_status=task_status)

            _, port = await tasks.start(start)
            async with Channel(f"https://127.0.0.1:{port}") as channel:
                with pytest.raises(errors.ServerUnavailable, match="cannot connect to https"):
                    await channel.unary(ECHO, b"")
            tasks.cancel_scope.cancel()
