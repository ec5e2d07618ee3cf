"""House rules that no linter knows."""

from __future__ import annotations

import ast
import importlib
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from house.source import MODULES, ROOT, module_name, name_of

NAMES = [module_name(path) for path in MODULES if path.name != "__main__.py"]


LOOSE_TASKS = {f"{where}.{what}" for where in ("asyncio", "loop") for what in ("create_task", "ensure_future")}


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_modules_have_one_idea_each() -> None:
    sizes = {name_of(path): lines(path) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > 600} == {}
    assert statistics.median(sizes.values()) < 200


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_waits_are_bounded_by_scopes_and_tasks_live_in_groups(path: Path) -> None:
    faults: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            faults += [f"{path}:{node.lineno}: parameter {name}" for name in names if name == "timeout"]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in LOOSE_TASKS:
            faults.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert faults == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_annotations_are_never_evaluated_by_accident(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    body = [node for node in ast.parse(source).body if not isinstance(node, ast.Expr)]
    if body:
        assert isinstance(body[0], ast.ImportFrom)
        assert body[0].module == "__future__"


@pytest.mark.parametrize("name", NAMES)
def test_modules_have_what_they_export(name: str) -> None:
    module = importlib.import_module(name)
    exported: list[str] = getattr(module, "__all__", [])
    assert sorted(set(exported)) == sorted(exported)
    assert [missing for missing in exported if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", ["flovyn", *(name for name in NAMES if name.count(".") == 1)])
def test_each_part_can_be_imported_first(name: str) -> None:
    """A cycle shows only when its other end is imported first."""
    subprocess.run([sys.executable, "-W", "error", "-c", f"import {name}"], check=True)


# What an import may cost is in `benchmarks/importing.py`; what costs most of it must not come along.
NOT_WITHOUT_USE = [
    # optional packages
    "cryptography",
    "httpx",
    "httpx2",
    "opentelemetry",
    "pydantic",
    "rich",
    "trio",
    "typer",
    "uvloop",
    # what only the wire, the server and the command line need: `connect` and `Worker.run` load the wire
    "betterproto2",
    "grpclib",
    "h2",
    "sqlite3",
    "flovyn.blocking",
    "flovyn.cli",
    "flovyn.serde.codecs",
    "flovyn.server",
    "flovyn.testing",
    "flovyn.wire.channel",
    "flovyn.wire.messages",
    "flovyn.wire.methods",
    "flovyn.worker.tree",
]


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint([name for name in {NOT_WITHOUT_USE} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(ast.literal_eval(run.stdout))


def test_importing_flovyn_loads_nothing_that_is_not_used() -> None:
    assert loaded_by("import flovyn") == set()


def test_defining_workflows_loads_nothing_that_is_not_used() -> None:
    """Definitions are imported by everybody: by tests, by programs that only start workflows, by linters."""
    program = """
from dataclasses import dataclass
from flovyn import Promise, TaskContext, WorkflowContext, query, signal, task, workflow

@dataclass
class Order:
    id: str

approval = Promise[bool]("approval")

@task
async def charge(ctx: TaskContext, order: Order) -> int: ...

@workflow
class Cart:
    @signal
    async def add(self, ctx: WorkflowContext, order: Order) -> None: ...
    @query
    def size(self) -> int: ...
    async def run(self, ctx: WorkflowContext, order: Order) -> int: ...

charge.encode_input((Order("o"),), {}), charge.input_schema, approval.codec
"""
    assert loaded_by(program) == set()


def tracked() -> list[Path]:
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a git work tree, so nobody knows what belongs to it")
    paths = [ROOT / name for name in run.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path != Path(__file__)]


# Written in pieces, so that this file does not find itself.
FOREIGN = re.compile(
    "|".join(
        [
            "/ro" + "ot/",
            "/ho" + "me/",
            "/wo" + "rk/",
            "/op" + "t/",
            "py" + "pi.org",
            "--index" + "-url",
            "--find" + "-links",
        ]
    )
)
LEFT_OVER = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:", "breakpoint" + r"\(\)"]))


@pytest.mark.parametrize("pattern", [FOREIGN, LEFT_OVER], ids=["machines and indexes", "left over"])
def test_nothing_of_one_machine_is_in_the_tree(pattern: re.Pattern[str]) -> None:
    found: list[str] = []
    for path in tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
