"""AnyIO calls that reach outside are refused by name, with what to use instead."""

from __future__ import annotations

import signal
import socket
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_process
import anyio.to_thread
import pytest
from anyio.abc import AsyncBackend

from flovyn.errors import DeterminismError
from flovyn.nursery._backend import FlovynBackend
from nursery.driving import run

REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("anyio.to_thread.run_sync", lambda: anyio.to_thread.run_sync(print)),
    ("anyio.open_file", lambda: anyio.open_file("nothing")),
    ("anyio.Path.read_text", lambda: anyio.Path("nothing").read_text()),
    ("anyio.run_process", lambda: anyio.run_process(["true"])),
    ("anyio.open_process", lambda: anyio.open_process(["true"])),
    ("anyio.to_process.run_sync", lambda: anyio.to_process.run_sync(print)),
    ("anyio.connect_tcp", lambda: anyio.connect_tcp("localhost", 1)),
    ("anyio.connect_tcp", lambda: anyio.connect_tcp("127.0.0.1", 1)),
    ("anyio.connect_unix", lambda: anyio.connect_unix("nothing")),
    ("anyio.create_tcp_listener", lambda: anyio.create_tcp_listener(local_host="localhost")),
    ("anyio.create_udp_socket", lambda: anyio.create_udp_socket(family=socket.AF_INET)),
    ("anyio.getaddrinfo", lambda: anyio.getaddrinfo("localhost", 1)),
    ("anyio.getnameinfo", lambda: anyio.getnameinfo(("127.0.0.1", 1))),
    ("anyio.wait_readable", lambda: anyio.wait_readable(0)),
    ("anyio.wait_writable", lambda: anyio.wait_writable(1)),
    ("anyio.notify_closing", lambda: anyio.notify_closing(0)),
    ("anyio.open_signal_receiver", lambda: anyio.open_signal_receiver(signal.SIGINT)),
    ("anyio.TemporaryFile.__aenter__", lambda: anyio.TemporaryFile().__aenter__()),
    ("anyio.to_thread.current_default_thread_limiter", lambda: anyio.to_thread.current_default_thread_limiter()),
]


@pytest.mark.parametrize(("name", "call"), REFUSED, ids=[name for name, _ in REFUSED])
def test_refused_by_name_at_the_users_own_line(name: str, call: Callable[[], Any]) -> None:
    async def user() -> None:
        result = call()
        await result

    async def main() -> DeterminismError:
        with pytest.raises(DeterminismError) as caught:
            await user()
        return caught.value

    error = run(main)
    assert error.message.startswith(f"{name} reaches outside the workflow, where no replay can follow; ")
    assert any(word in error.message for word in ("ctx.run", "a signal of the workflow"))
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1] == "user"


def test_the_backend_is_complete() -> None:
    assert FlovynBackend.__abstractmethods__ == frozenset()
    assert issubclass(FlovynBackend, AsyncBackend)
