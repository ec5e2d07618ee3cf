"""`flovyn replay`, as a pipeline uses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest

import flovyn as sdk
from cli.commands import Flovyn
from cli.processes import ServerProcess, server_process
from flovyn import Worker, WorkflowContext, workflow
from flovyn.testing import History, RecordedEvent

RUN = "550e8400-e29b-41d4-a716-446655440000"
OTHER = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
CODE = """\
from flovyn import workflow

@workflow
async def greet(ctx, name: str) -> str:
    return await ctx.run("greet", lambda: f"hello {name}")

@workflow
class Cart:
    async def run(self, ctx) -> int:
        return 1

every = [greet, Cart]
twice = [greet, greet]
none = 7

class Backwards:
    name = "backwards"
    async def decode(self, data, metadata):
        return data[::-1]

backwards = Backwards()
"""


@pytest.fixture
def flovyn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flovyn:
    return Flovyn(monkeypatch, capsys)


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with workflows and histories, which is where the command is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("shop", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "shop.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name", encoding="utf-8")
    (tmp_path / "histories").mkdir()
    (tmp_path / "empty").mkdir()
    history("greet", "hello Ada", "histories/good.json")
    history("welcome", "hello Ada", "other.json")
    history("greet", "Hello Ada", "changed.json")
    (tmp_path / "bad.json").write_text("[", encoding="utf-8")
    return tmp_path


def history(kind: str, output: str, path: str) -> None:
    marker = {"operationName": "$flovyn.activation", "result": {"id": "a", "after": 0, "seen": 1, "at": 1}}
    data = [
        ("WORKFLOW_STARTED", {"kind": kind, "input": "Ada"}),
        ("OPERATION_COMPLETED", marker),
        ("OPERATION_COMPLETED", {"operationName": "greet", "result": "hello Ada"}),
        ("WORKFLOW_COMPLETED", {"output": output}),
    ]
    events = tuple(RecordedEvent(n, name, json.dumps(said).encode()) for n, (name, said) in enumerate(data, 1))
    recorded = History(workflow_id=RUN, kind=kind, events=events, input=b'"Ada"')
    Path(path).write_text(recorded.to_json(), encoding="utf-8")


GOOD = f"equal: greet {RUN} (histories/good.json): 1 activation\n"
CHANGED = f"""\
violation: greet {RUN} (changed.json): Determinism violation: Workflow end mismatch in activation 1: \
expected 'completed: "Hello Ada"', got 'completed: "hello Ada"'
--- history: activation 1, events 2 to 4
+++ code: greet 1.0.0
@@ -1,2 +1,2 @@
 run greet
-completed: "Hello Ada"
+completed: "hello Ada"
"""
BAD = "error: bad.json: MalformedHistory: Input data was truncated\n"


def test_all_is_equal(flovyn: Flovyn) -> None:
    said = flovyn("replay", "shop:greet", "shop:Cart", "--history", "histories")
    assert said == (0, GOOD + "1 equal\n", "")


def test_encoded_payloads_take_their_codecs(flovyn: Flovyn, shop: Path) -> None:
    path = shop / "histories" / "good.json"
    encoded = '{"$flovyn":{"v":1,"encoded":{"by":[{"codec":"backwards"}],"data":"ImFkQSBvbGxlaCI="}}}'
    path.write_text(path.read_text(encoding="utf-8").replace('"hello Ada"', encoded), encoding="utf-8")
    said = flovyn("replay", "shop:greet", "--codecs", "shop:backwards", "--history", "histories")
    assert said == (0, GOOD + "1 equal\n", "")
    code, out, err = flovyn("replay", "shop:greet", "--history", "histories")
    assert (code, err) == (2, "")
    assert "CodecError: the history of 550e8400-e29b-41d4-a716-446655440000 has payloads that are encoded" in out
    code, out, err = flovyn("replay", "shop:greet", "--codecs", "shop:backwards", "--codecs", "shop:backwards")
    assert (code, "there is nothing to replay" in err) == (2, True)


def test_a_violation_is_shown_with_its_diff(flovyn: Flovyn) -> None:
    said = flovyn("replay", "shop:every", "--history", "changed.json", "--history", "histories/good.json")
    assert said == (1, CHANGED + GOOD + "1 equal, 1 violation\n", "")


def test_what_cannot_be_replayed_weighs_most_and_hinders_nothing_else(flovyn: Flovyn) -> None:
    paths = ("bad.json", "changed.json", "other.json")
    code, out, err = flovyn("replay", "shop:every", *(part for path in paths for part in ("--history", path)))
    assert (code, err) == (2, "")
    missing = "the history is of workflow kind 'welcome'; the replayer was given: greet, Cart"
    assert out.startswith(f"{BAD}{CHANGED}error: welcome {RUN} (other.json): DefinitionError: {missing}\nTraceback")
    assert out.endswith(f"flovyn.errors.DefinitionError: {missing}\n1 violation, 2 errors\n")


def test_reports_as_json(flovyn: Flovyn) -> None:
    code, out, err = flovyn("replay", "shop:greet", "--json", "--history", "changed.json", "--history", "bad.json")
    assert (code, err) == (2, "")
    changed, bad = json.loads(out)
    assert (changed["status"], changed["kind"], changed["events"]) == ("violation", "greet", [2, 4])
    assert changed["diff"] == CHANGED.partition("\n")[2]
    assert (bad["status"], bad["source"], bad["error"]["type"]) == ("error", "bad.json", "MalformedHistory")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("shop:greet",), "there is nothing to replay: name histories (--history) or executions (--execution)"),
        (
            ("shop:greet", "--execution", RUN),
            "--execution needs to know the organisation: --org-id, or FLOVYN_ORG_ID, or a profile (FLOVYN_PROFILE)\n",
        ),
        (("shop:greet", "--history", "empty"), "there is no *.json in the directory 'empty'"),
        (("shop", "--history", "x"), "'shop' does not say where it is: write it as shop.orders:place_order"),
        (("shop:gone", "--history", "x"), "'shop:gone' cannot be had: AttributeError: module 'shop' has no attribute"),
        (("gone:x", "--history", "x"), "'gone:x' cannot be had: ModuleNotFoundError: No module named 'gone'"),
        (("broken:x", "--history", "x"), "'broken:x' cannot be had: ModuleNotFoundError: No module named 'nothing_of"),
        (("shop:none", "--history", "x"), "7 is no workflow: decorate the function or the class itself"),
        (("shop:twice", "--history", "x"), "two workflows are of the kind 'greet'"),
    ],
)
def test_what_cannot_work_is_one_readable_line(flovyn: Flovyn, arguments: tuple[str, ...], text: str) -> None:
    code, out, err = flovyn("replay", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"flovyn: {text}")
    assert err.count("\n") == 1


async def live(server: ServerProcess) -> str:
    """Run a greeting on the server."""

    @workflow
    async def greet(ctx: WorkflowContext, name: str) -> str:
        return await ctx.run("greet", lambda: f"hello {name}")

    with anyio.fail_after(20):
        async with sdk.connect(server.url, org_id=server.org_id, token=server.token) as client:
            async with Worker(client, workflows=[greet]):
                handle = await client.start(greet, "Grace")
                assert await handle.result() == "hello Grace"
    return handle.id


def test_executions_are_read_from_the_server(flovyn: Flovyn, tmp_path: Path) -> None:
    with server_process("--db", ":memory:") as server:
        run = anyio.run(live, server)
        there = ("--url", server.url, "--org-id", server.org_id, "--token", server.token)
        code, out, err = flovyn("replay", "shop:greet", *there, "--execution", run, "--execution", OTHER)
        assert (code, err) == (2, "")
        assert out.startswith(f"equal: greet {run}: 1 activation\nerror: {OTHER}: NotFound: ")
        assert out.endswith("1 equal, 1 error\n")
        renamed = CODE.replace('run("greet"', 'run("salute"')
        (tmp_path / "later.py").write_text(renamed, encoding="utf-8")
        code, out, err = flovyn("replay", "later:greet", *there, "--execution", run)
    assert (code, err) == (1, "")
    assert "Operation name mismatch at sequence 0: expected 'greet', got 'salute'" in out


def profile(**keys: str) -> str:
    return "[profiles.default]\n" + "".join(f"{key} = {value!r}\n" for key, value in keys.items())


def test_a_profile_says_where_executions_are(flovyn: Flovyn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that it says: its key goes to no other server."""
    file = tmp_path / "profiles.toml"
    monkeypatch.delenv("FLOVYN_SERVER_URL", raising=False)
    with server_process("--db", ":memory:") as server:
        run = anyio.run(live, server)
        monkeypatch.setenv("FLOVYN_CONFIG_FILE", str(file))
        file.write_text(profile(url=server.url, org_id=server.org_id, token=server.token))
        said = flovyn("replay", "shop:greet", "--execution", run)
        assert said == (0, f"equal: greet {run}: 1 activation\n1 equal\n", "")
        file.write_text(profile(url="http://127.0.0.1:1", org_id=OTHER, token="no key"))
        there = ("--url", server.url, "--org-id", server.org_id, "--token", server.token)
        assert flovyn("replay", "shop:greet", *there, "--execution", run) == said
    file.write_text(profile(url=server.url))
    text = "org_id is missing: pass org_id=... to connect, set FLOVYN_ORG_ID, or name a profile\n"
    assert flovyn("replay", "shop:greet", "--execution", run) == (2, "", f"flovyn: {text}")
