"""Noticing that a connection is gone while nothing is called, and giving one up."""

from __future__ import annotations

import anyio
import pytest

from flovyn import errors
from flovyn.server.acceptor import Call, Routes
from flovyn.wire.channel import Channel
from flovyn.wire.transport import Connected
from wire.peers import ECHO, HANG, Service, serving, until

pytestmark = pytest.mark.anyio


async def lost(channel: Channel) -> bool:
    with anyio.move_on_after(0) as scope:
        await channel.lost()
    return not scope.cancelled_caught


async def test_a_channel_has_a_connection_that_can_be_lost() -> None:
    assert isinstance(Channel("http://localhost:9090"), Connected)


async def test_without_a_connection_there_is_nothing_to_wait_for() -> None:
    channel = Channel("http://localhost:9090")
    assert await lost(channel)
    channel.hang_up("why not")
    async with channel:
        assert await lost(channel)
        channel.hang_up("why not")


async def test_the_end_of_an_idle_connection_is_noticed() -> None:
    up, over = anyio.Event(), anyio.Event()

    async def serve_until(send: anyio.abc.ObjectSendStream[str]) -> None:
        async with serving(Service().routes) as url:
            await send.send(url)
            await over.wait()

    send, receive = anyio.create_memory_object_stream[str](1)
    with anyio.fail_after(5), send, receive:
        async with anyio.create_task_group() as tg:
            tg.start_soon(serve_until, send)
            async with Channel(await receive.receive()) as channel:
                await channel.unary(ECHO, b"a")
                assert not await lost(channel)

                async def wait() -> None:
                    await channel.lost()
                    up.set()

                async with anyio.create_task_group() as waiting:
                    waiting.start_soon(wait)
                    over.set()
                    await up.wait()
                await until(lambda: channel.statistics().open_connections == 0)
                assert await lost(channel)


async def test_hanging_up_loses_the_calls_and_the_next_makes_a_new_connection() -> None:
    called = anyio.Event()

    async def hang(call: Call, request: bytes) -> bytes:
        called.set()
        await anyio.sleep_forever()
        return b""

    routes = Routes()
    routes.unary(HANG, hang)

    async def echo(call: Call, request: bytes) -> bytes:
        return request

    routes.unary(ECHO, echo)
    caught: list[errors.FlovynError] = []
    with anyio.fail_after(5):
        async with serving(routes) as url, Channel(url) as channel:

            async def call() -> None:
                try:
                    await channel.unary(HANG, b"")
                except errors.FlovynError as error:
                    caught.append(error)

            async with anyio.create_task_group() as tg:
                tg.start_soon(call)
                await called.wait()
                channel.hang_up("it does not answer")
            assert (await channel.unary(ECHO, b"again")).message == b"again"
            assert channel.statistics().connections_opened == 2
            await until(lambda: channel.statistics().open_connections == 1)
    (error,) = caught
    assert type(error) is errors.ConnectionLost
    assert "this side hung up: it does not answer; the call may have taken effect" in error.message
