"""The command line, as a user meets it: in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import anyio
import pytest

from cli.commands import Flovyn
from cli.processes import ServerProcess, environment, server_process
from flovyn.server.auth import DEV_ORG_ID, DEV_TOKEN
from flovyn.server.store import Store
from flovyn.wire import methods
from flovyn.wire.channel import Channel
from flovyn.wire.messages.flovyn import v1 as pb


@pytest.fixture
def flovyn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flovyn:
    return Flovyn(monkeypatch, capsys)


async def start(url: str, token: str, org_id: str, key: str) -> str:
    with anyio.fail_after(10):
        async with Channel(url, token=token) as channel:
            request = pb.StartWorkflowRequest(org_id=org_id, workflow_kind="order", idempotency_key=key)
            return (await channel.unary(methods.START_WORKFLOW, request)).message.workflow_execution_id


def test_the_version(flovyn: Flovyn) -> None:
    assert flovyn("--version") == (0, f"flovyn {version('flovyn')}\n", "")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_server_says_where_it_is_serves_and_ends_when_told(backend: str, tmp_path: Path) -> None:
    with server_process("--backend", backend, "--db", str(tmp_path / "flovyn.db")) as server:
        assert (server.org_id, server.org_slug, server.token) == (DEV_ORG_ID, "dev", DEV_TOKEN)
        assert anyio.run(start, server.url, server.token, server.org_id, "key")
        assert server.end(signal.SIGTERM if backend == "trio" else signal.SIGINT) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


async def claim(server: ServerProcess) -> tuple[str, str]:
    with anyio.fail_after(10):
        async with Channel(server.url, token=server.token) as channel:
            request = pb.PollRequest(worker_id="w", org_id=server.org_id, timeout_seconds=5)
            reply = await channel.unary(methods.POLL_WORKFLOW, request)
    assert reply.message.workflow_execution is not None
    return reply.message.workflow_execution.id, reply.metadata["flovyn-claim"]


async def finish(server: ServerProcess, run: str, token: str) -> list[str]:
    with anyio.fail_after(10):
        async with Channel(server.url, token=server.token) as channel:
            end = pb.WorkflowCommand(
                command_type=pb.CommandType.COMPLETE_WORKFLOW, complete_workflow=pb.CompleteWorkflowCommand()
            )
            request = pb.SubmitWorkflowCommandsRequest(
                workflow_execution_id=run, commands=[end], status=pb.WorkflowStatus.COMPLETED
            )
            await channel.unary(methods.SUBMIT_WORKFLOW_COMMANDS, request, metadata={"flovyn-claim": token})
            history = await channel.unary(methods.GET_EVENTS, pb.GetEventsRequest(workflow_execution_id=run))
    return [event.event_type for event in history.message.events]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    options = ("--db", str(tmp_path / "flovyn.db"))
    with server_process(*options) as server:
        first = [anyio.run(start, server.url, server.token, server.org_id, f"key-{n}") for n in range(3)]
        run, token = anyio.run(claim, server)
        assert run == first[0]
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    with server_process(*options) as server:
        again = [anyio.run(start, server.url, server.token, server.org_id, f"key-{n}") for n in range(3)]
        assert again == first
        assert anyio.run(finish, server, run, token) == ["WORKFLOW_STARTED", "WORKFLOW_COMPLETED"]


def test_a_key_of_ones_own_comes_from_the_environment(tmp_path: Path) -> None:
    org = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    command = [sys.executable, "-m", "flovyn", "server", "--db", ":memory:", "--grpc-port", "0", "--no-http"]
    env = environment(FLOVYN_WORKER_TOKEN="secret", FLOVYN_ORG_ID=org)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        where = process.stdout.readline().split()
        assert process.stdout.readline() == f"org {org} org-6ba7b810\n"
        assert anyio.run(start, f"http://{where[1]}", "secret", org, "key")
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert rest == ("", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            (),
            "flovyn: a server needs a token (FLOVYN_WORKER_TOKEN), or a file that names organisations and keys ",
        ),
        (("--dev", "--host", "0.0.0.0"), "flovyn: development mode listens only at addresses of this machine"),
        (("--dev", "--worker-timeout", "0"), "flovyn: worker_timeout is 0.0; it must be over 0"),
        (("--dev", "--db", ""), "flovyn: a server needs a database file; `:memory:` keeps nothing\n"),
        (("--dev", "--host", ""), "flovyn: development mode listens only at addresses of this machine, not at ''"),
        (("--dev", "--db", "/nowhere/flovyn.db"), "flovyn: cannot open the database file '/nowhere/flovyn.db'"),
    ],
)
def test_what_cannot_work_is_one_readable_line(flovyn: Flovyn, options: tuple[str, ...], text: str) -> None:
    db = () if "--db" in options else ("--db", ":memory:")
    code, out, err = flovyn("server", *db, "--grpc-port", "0", "--no-http", *options)
    assert (code, out) == (2, "")
    assert err.startswith(text)
    assert err.count("\n") == 1


def test_a_file_in_use_is_one_readable_line(flovyn: Flovyn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flovyn.server.limits.LOCKED_FILE_WAIT_S", 0.05)
    path = str(tmp_path / "flovyn.db")
    store = Store(path)
    text = f"flovyn: the database file {path!r} is in use by another process; stop that server, or name another file\n"
    assert flovyn("server", "--dev", "--db", path, "--grpc-port", "0", "--no-http") == (2, "", text)
    store.close()


def test_a_backend_that_is_not_installed_is_named(flovyn: Flovyn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    text = "flovyn: --backend trio needs a package: pip install 'flovyn[trio]'\n"
    assert flovyn("server", "--dev", "--db", ":memory:", "--grpc-port", "0", "--backend", "trio") == (2, "", text)


@pytest.mark.parametrize("arguments", [("server", "--backend", "curio"), ("server", "--nonsense"), ("nonsense",)])
def test_a_wrong_use_exits_with_2(flovyn: Flovyn, arguments: tuple[str, ...]) -> None:
    code, out, err = flovyn(*arguments)
    assert (code, out) == (2, "")
    assert arguments[-1] in err


def test_without_the_extra_it_says_what_to_install(flovyn: Flovyn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "typer" or name.startswith("flovyn.cli."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    code, out, err = flovyn("--version")
    assert (code, out) == (2, "")
    assert err == "flovyn: the command line needs the package 'typer': pip install 'flovyn[cli]'\n"
