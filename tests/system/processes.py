"""Servers and workers as processes of their own, so that they can be killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("order_worker.py")


@dataclass
class ServerProcess:
    """A running `flovyn server --dev`.

    Attributes:
        http_url: Where it answers REST, if it does.
        api_key: What opens that.
    """

    process: Process
    port: int
    org_id: str
    token: str
    http_url: str | None
    api_key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def _running(*command: str | Path) -> AsyncGenerator[Process]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    process = await anyio.open_process([sys.executable, *map(str, command)], env=environment, stderr=None)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await kill(process)
            await process.aclose()


@asynccontextmanager
async def server(db: Path, *options: str, port: int = 0, http: bool = False) -> AsyncGenerator[ServerProcess]:
    """Run a server in development mode; it is up when the block begins."""
    rest = ("--http-port", "0") if http else ("--no-http",)
    command = ("-m", "flovyn", "server", "--dev", "--db", str(db), "--grpc-port", str(port), *rest, *options)
    async with _running(*command) as process:
        assert process.stdout is not None
        text = b""
        with anyio.fail_after(20):
            while b"token " not in text or not text.endswith(b"\n"):
                text += await process.stdout.receive()
        said = dict(line.split(" ", 1) for line in text.decode().splitlines())
        grpc_port = int(said["grpc"].rpartition(":")[2])
        url = f"http://{said['http']}" if http else None
        yield ServerProcess(process, grpc_port, said["org"].split()[0], said["token"], url, said["api-key"])


@asynccontextmanager
async def worker(backend: str, at: ServerProcess, directory: Path, *, script: Path = WORKER) -> AsyncGenerator[Process]:
    """Run an order worker, or the worker of another script; it polls when the block begins."""
    already = lines(directory).count("ready")
    async with _running(script, backend, at.url, at.org_id, at.token, directory) as process:
        await until(directory, "ready", already + 1)
        yield process


async def kill(process: Process) -> None:
    """`kill -9`, and wait until it is dead."""
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


def lines(directory: Path) -> list[str]:
    """The effects so far, without the process that had them."""
    effects = directory / "effects"
    return [line.rpartition(" ")[0] for line in effects.read_text().splitlines()] if effects.exists() else []


async def until(directory: Path, line: str, times: int = 1) -> None:
    """Wait until an effect was had so many times."""
    with anyio.fail_after(20):
        while lines(directory).count(line) < times:
            await anyio.sleep(0.01)
