"""Which calls are made again when the server is away for a moment, and which would act twice: all that there are."""

from __future__ import annotations

import anyio
import httpx2
import pytest

from client.calls import CHARGE, NEVER_REPEATED, PLACE, REPEATED, fake_rest, fake_server
from client.rest_double import AT_ONCE, refusal
from flovyn.client import connect
from flovyn.definitions import RetryPolicy
from flovyn.errors import (
    ConnectionLost,
    DeadlineExceeded,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    NotFound,
    ServerError,
    ServerUnavailable,
    Unauthenticated,
)
from flovyn.wire.messages.flovyn import v1 as pb
from worker.fakes import ORG

pytestmark = pytest.mark.anyio

AWAY: list[FlovynError] = [
    ServerUnavailable("away"),
    ConnectionLost("broke"),
    DeadlineExceeded("slow"),
    ServerError("busy", status="ABORTED"),
]

AWAY_OVER_REST = [
    httpx2.ConnectError("refused"),
    httpx2.ConnectTimeout("slow"),
    httpx2.ReadError("broke"),
    httpx2.RemoteProtocolError("Server disconnected without sending a response."),
    httpx2.ReadTimeout("silent"),
    refusal(503, "restarting"),
    refusal(429, "later"),
    refusal(502, "who?"),
    refusal(408, "too slow"),
]

OVER_GRPC = [name for name, call in REPEATED.items() if call.rpc is not None]
OVER_REST = [name for name, call in REPEATED.items() if call.rpc is None]
ATTEMPTS = AT_ONCE.max_attempts


@pytest.mark.parametrize("name", OVER_GRPC)
async def test_what_acts_once_is_repeated(name: str) -> None:
    call = REPEATED[name]
    assert call.rpc is not None
    for error in AWAY:
        server = fake_server()
        async with fake_rest({}).client(server) as client:
            server.refuse(call.rpc, *[error] * (ATTEMPTS - 1))
            await call.make(client)
            assert len(server.seen(call.rpc)) == ATTEMPTS
            server.refuse(call.rpc, *[error] * ATTEMPTS)
            with pytest.raises(type(error)) as caught:
                await call.make(client)
            assert caught.value is error
        assert len(server.seen(call.rpc)) == 2 * ATTEMPTS


@pytest.mark.parametrize("name", OVER_REST)
async def test_what_acts_once_is_repeated_over_rest(name: str) -> None:
    call = REPEATED[name]
    for failure in AWAY_OVER_REST:
        double = fake_rest(failure, failure, call.answer)
        async with double.client(fake_server()) as client:
            await call.make(client)
        assert len(double.requests) == 3
    double = fake_rest(httpx2.ConnectError("refused"), refusal(503, "restarting"))
    async with double.client(fake_server()) as client:
        with pytest.raises(ServerUnavailable, match="restarting$"):
            await call.make(client)
    assert len(double.requests) == ATTEMPTS


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("error", [NotFound("?"), FailedPrecondition("?"), Unauthenticated("?"), ServerError("?")])
async def test_a_refusal_is_not_repeated(name: str, error: FlovynError) -> None:
    call, server, double = REPEATED[name], fake_server(), fake_rest(refusal(400, "never"))
    async with double.client(server) as client:
        if call.rpc is None:
            with pytest.raises(InvalidArgument):
                await call.make(client)
            assert len(double.requests) == 1
            return
        server.refuse(call.rpc, error)
        with pytest.raises(type(error)) as caught:
            await call.make(client)
    assert caught.value is error
    assert len(server.seen(call.rpc)) == 1


@pytest.mark.parametrize("name", NEVER_REPEATED)
async def test_what_would_act_twice_is_never_repeated(name: str) -> None:
    call = NEVER_REPEATED[name]
    if call.rpc is None:
        for failure in AWAY_OVER_REST:
            double = fake_rest(failure)
            async with double.client(fake_server()) as client:
                with pytest.raises((ServerUnavailable, ConnectionLost, DeadlineExceeded)):
                    await call.make(client)
            assert len(double.requests) == 1
        return
    for error in AWAY:
        server = fake_server()
        server.refuse(call.rpc, error)
        async with fake_rest({}).client(server) as client:
            with pytest.raises(type(error)) as caught:
                await call.make(client)
        assert caught.value is error
        assert len(server.seen(call.rpc)) == 1


async def test_what_is_sent_again_is_the_same() -> None:
    server = fake_server()
    server.refuse("StartWorkflow", ServerUnavailable("away"))
    async with fake_rest({}).client(server) as client:
        await client.options(idempotency_key="k", metadata={"a": "b"}).start(PLACE, {"n": 1})
    first, second = server.seen("StartWorkflow")
    assert first.request == second.request
    assert (first.request.idempotency_key, first.request.metadata) == ("k", {"a": "b"})


async def test_a_policy_of_one_attempt_repeats_nothing(free_tcp_port: int) -> None:
    once = RetryPolicy(max_attempts=1)
    with anyio.fail_after(10):
        async with connect(f"http://127.0.0.1:{free_tcp_port}", org_id=ORG, retry=once) as client:
            with pytest.raises(ServerUnavailable):
                await client.options(idempotency_key="k").start(PLACE)


async def test_options_reach_the_wire() -> None:
    server = fake_server()
    async with fake_rest({}).client(server) as client:
        await client.options(idempotency_key="k", idempotency_key_ttl=1.5, priority=-60, version="2").start(PLACE)
        await client.submit(CHARGE.options(schedule_to_close=0.0015, idempotency_key="k", idempotency_key_ttl=60), 7)
    start: pb.StartWorkflowRequest = server.seen("StartWorkflow")[0].request
    assert (start.priority_seconds, start.workflow_version, start.idempotency_key_ttl_seconds) == (-60, "2", 2)
    assert server.seen("SubmitTask")[0].request == pb.SubmitTaskRequest(
        org_id=ORG,
        kind="charge",
        input=b"7",
        queue="default",
        max_retries=3,
        timeout_ms=2,
        idempotency_key="k",
        idempotency_key_ttl_seconds=60,
    )
