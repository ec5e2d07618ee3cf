"""`flovyn server` in a process of its own: REST, config files, and how it begins and ends."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cli.commands import Flovyn
from cli.processes import ServerProcess, environment, server_process
from flovyn.server.auth import DEV_API_KEY, DEV_ORG_ID, DEV_TOKEN
from flovyn.server.store import Store
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb

ORG = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
OTHER = "6ba7b811-9dad-41d1-80b4-00c04fd430c8"

CONFIG = f"""
server_port = 0
grpc_server_port = 0

[[orgs]]
id = "{ORG}"
slug = "acme"
[[orgs]]
id = "{OTHER}"
slug = "other"

[auth]
enabled = true
[auth.static_api_key]
keys = [
  {{ key = "sk", org_id = "{ORG}", principal_type = "User", principal_id = "ada", role = "ADMIN" }},
  {{ key = "wk", org_id = "{ORG}", principal_type = "Worker", principal_id = "w" }},
]
[auth.endpoints.http]
authenticators = ["static_api_key"]
authorizer = "cedar"

[nats]
enabled = true
"""


@pytest.fixture
def flovyn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flovyn:
    return Flovyn(monkeypatch, capsys)


def ask(url: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, headers={**headers, "content-type": "application/json"}, data=data)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@contextmanager
def process(*options: str, lines: int, **env: str) -> Generator[tuple[subprocess.Popen[str], list[str]]]:
    """A server, and the first lines that it said."""
    command = [sys.executable, "-m", "flovyn", "server", *options]
    environ = environment(**env)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        assert running.stdout is not None
        said = [running.stdout.readline().rstrip("\n") for _ in range(lines)]
        yield running, said
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_development_mode_serves_rest_with_a_key_that_it_prints(backend: str) -> None:
    with process(
        "--dev", "--db", ":memory:", "--grpc-port", "0", "--http-port", "0", "--backend", backend, lines=5
    ) as (running, said):
        names = [line.split(" ")[0] for line in said]
        assert names == ["grpc", "http", "org", "api-key", "token"]
        assert said[2:] == [f"org {DEV_ORG_ID} dev", f"api-key {DEV_API_KEY}", f"token {DEV_TOKEN}"]
        where = f"http://{said[1].split()[1]}"
        assert ask(f"{where}/_/health")[0] == 200
        status, started = ask(f"{where}/api/orgs/dev/workflow-executions", DEV_API_KEY, {"kind": "order"})
        assert (status, started["status"]) == (201, "PENDING")
        assert ask(f"{where}/api/orgs/dev/workflow-executions", DEV_TOKEN)[0] == 403
        running.send_signal(signal.SIGTERM)
        assert running.communicate(timeout=10) == ("", "")
        assert running.returncode == 0


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_config_file_names_ports_organisations_and_keys(by: str, tmp_path: Path) -> None:
    file = tmp_path / "flovyn.toml"
    file.write_text(CONFIG)
    options = ("--config", str(file)) if by == "option" else ()
    env = {} if by == "option" else {"CONFIG_FILE": str(file)}
    with process("--db", ":memory:", *options, lines=4, **env) as (running, said):
        assert said[2:] == [f"org {ORG} acme", f"org {OTHER} other"]
        where = f"http://{said[1].split()[1]}"
        status, org = ask(f"{where}/api/orgs/acme", "sk")
        assert (status, org["id"], org["name"]) == (200, ORG, "acme")
        assert ask(f"{where}/api/orgs/other", "sk")[0] == 403
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=10)
    assert (out, running.returncode) == ("", 0)
    assert err == f"{file}: nats is not used: this server needs no message broker\n"


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "flovyn.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file.write_text(CONFIG.replace("grpc_server_port = 0", f"grpc_server_port = {port}"))
        with process("--db", ":memory:", "--config", str(file), lines=1) as (running, _):
            assert f"flovyn: cannot listen at 127.0.0.1:{port}: " in running.communicate(timeout=10)[1]
            assert running.returncode == 2
        with process("--db", ":memory:", "--config", str(file), lines=1, GRPC_SERVER_PORT="0") as (_, said):
            assert said[0].startswith("grpc 127.0.0.1:")
        options = ("--db", ":memory:", "--config", str(file), "--grpc-port", "0")
        with process(*options, lines=1, GRPC_SERVER_PORT=str(port)) as (_, said):
            assert said[0].startswith("grpc 127.0.0.1:")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_sigterm_lets_a_long_poll_end_empty_and_leaves_a_closed_file(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "flovyn.db"

    async def poll(server: ServerProcess) -> tuple[pb.PollResponse, int]:
        with anyio.fail_after(10):
            async with Channel(server.url, token=server.token) as channel:
                start = pb.StartWorkflowRequest(org_id=server.org_id, workflow_kind="order")
                await channel.unary(methods.START_WORKFLOW, start)
                codes: list[int] = []
                reply = pb.PollResponse(traceparent="none yet")

                async def end() -> None:
                    codes.append(await anyio.to_thread.run_sync(server.end))

                async with anyio.create_task_group() as tasks:
                    request = pb.PollRequest(worker_id="w", org_id=server.org_id, queue="other", timeout_seconds=30)

                    async def held() -> None:
                        nonlocal reply
                        reply = (await channel.unary(methods.POLL_WORKFLOW, request)).message

                    tasks.start_soon(held)
                    await anyio.sleep(0.3)  # nobody outside can see that the poll is held
                    tasks.start_soon(end)
                return reply, codes[0]

    with server_process("--backend", backend, "--db", str(path)) as server:
        assert anyio.run(poll, server) == (pb.PollResponse(), 0)
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    assert [file.name for file in tmp_path.iterdir()] == ["flovyn.db"]  # no log is left beside it
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT status FROM run").fetchall() == [("PENDING",)]
    connection.close()


def test_what_a_killed_server_had_promised_is_there_after_its_restart(tmp_path: Path) -> None:
    """A timer that came due meanwhile fires, and a claim lapses, for nobody comes back for it."""
    options = ("--db", str(tmp_path / "flovyn.db"), "--worker-timeout", "1")

    async def suspend(server: ServerProcess) -> str:
        with anyio.fail_after(10):
            async with Channel(server.url, token=server.token) as channel:
                start = pb.StartWorkflowRequest(org_id=server.org_id, workflow_kind="order")
                for _ in range(2):
                    await channel.unary(methods.START_WORKFLOW, start)
                runs: list[str] = []
                for commands in ((300, "soon"), None):
                    poll = pb.PollRequest(worker_id="w", org_id=server.org_id, timeout_seconds=5)
                    run = (await channel.unary(methods.POLL_WORKFLOW, poll)).message.workflow_execution
                    assert run is not None
                    runs.append(run.id)
                    if commands:
                        await channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, sleeping(run.id))
                return runs[0]

    def sleeping(run: str) -> pb.SubmitWorkflowCommandsRequest:
        timer = pb.WorkflowCommand(
            command_type=pb.CommandType.START_TIMER, start_timer=pb.StartTimerCommand(timer_id="t", duration_ms=300)
        )
        end = pb.WorkflowCommand(
            command_type=pb.CommandType.SUSPEND_WORKFLOW, suspend_workflow=pb.SuspendWorkflowCommand(reason="waits")
        )
        return pb.SubmitWorkflowCommandsRequest(
            workflow_execution_id=run, commands=[timer, end], status=pb.WorkflowStatus.SUSPENDED
        )

    async def both(server: ServerProcess) -> set[str]:
        with anyio.fail_after(10):
            async with Channel(server.url, token=server.token) as channel:
                poll = pb.PollRequest(worker_id="v", org_id=server.org_id, timeout_seconds=10)
                found: set[str] = set()
                while len(found) < 2:
                    run = (await channel.unary(methods.POLL_WORKFLOW, poll)).message.workflow_execution
                    assert run is not None
                    found.add(run.id)
                return found

    with server_process(*options) as server:
        slept = anyio.run(suspend, server)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    with server_process(*options) as server:
        assert slept in anyio.run(both, server)
        where = f"{server.http_url}/api/orgs/dev/workflow-executions/{slept}/events"
        types = [event["eventType"] for event in ask(where, server.api_key)[1]]
        assert types == ["WORKFLOW_STARTED", "TIMER_STARTED", "WORKFLOW_SUSPENDED", "TIMER_FIRED"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--dev", "--no-http", "--http-port", "1"), "--http-port 1 and --no-http contradict each other; give one"),
        (("--dev", "--http-port", "0", "--config", "none.toml"), "cannot read the config file 'none.toml': No such"),
        (("--dev", "--no-http", "--config", "keys.toml"), "organisations and keys are given twice: by a list"),
        (("--token", "t", "--no-http", "--config", "keys.toml"), "organisations and keys are given twice: by a list"),
        (("--no-http", "--config", "bad.toml"), "bad.toml: colour is not known to this server, which"),
        (("--dev", "--no-http", "--db", "corrupt.db"), "'corrupt.db' is not a database: file is not a database"),
        (("--dev", "--no-http", "--db", "newer.db"), "'newer.db' was written by a newer Flovyn (schema 99, "),
        (("--dev", "--no-http", "--db", "half.db"), "the database file 'half.db' is damaged (database di"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_readable_line(
    flovyn: Flovyn, options: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("keys.toml").write_text(CONFIG.replace("[nats]\nenabled = true", ""))
    Path("bad.toml").write_text("colour = 'red'")
    Path("corrupt.db").write_bytes(b"no database at all" * 100)
    connection = sqlite3.connect("newer.db")
    connection.executescript("CREATE TABLE t (x); PRAGMA user_version = 99; PRAGMA application_id = 0x464C4F56")
    connection.close()
    Store("half.db").close()
    whole = Path("half.db").read_bytes()
    Path("half.db").write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    code, out, err = flovyn(
        "server", "--grpc-port", "0", *(() if "--db" in options else ("--db", ":memory:")), *options
    )
    assert (code, out) == (2, "")
    assert err.startswith(f"flovyn: {text}")
    assert err.count("\n") == 1


def test_without_the_packages_of_rest_the_command_says_so_and_serves_grpc(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['starlette'] = None\n")
    options = ("--dev", "--db", ":memory:", "--grpc-port", "0")
    with process(*options, lines=3, PYTHONPATH=str(tmp_path)) as (running, said):
        assert [line.split(" ")[0] for line in said] == ["grpc", "org", "api-key"]
        running.terminate()
        assert (
            running.communicate(timeout=10)[1] == "no REST: starlette is not installed; pip install 'flovyn[server]'\n"
        )
    with process(*options, "--http-port", "0", lines=1, PYTHONPATH=str(tmp_path)) as (running, _):
        err = running.communicate(timeout=10)[1]
        assert err == "flovyn: HTTP needs starlette: pip install 'flovyn[server]', or turn HTTP off\n"
        assert running.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
def test_a_disk_that_is_full_at_the_start_is_one_readable_line_and_no_harm(tmp_path: Path) -> None:
    path = str(tmp_path / "flovyn.db")
    command = [sys.executable, "-m", "flovyn", "server", "--dev", "--no-http", "--grpc-port", "0", "--db", path]
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *command]
    run = subprocess.run(limited, capture_output=True, text=True, env=environment(), timeout=20, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"flovyn: cannot use the database file {path!r}: ")
    assert run.stderr.count("\n") == 1
    Store(path).close()
