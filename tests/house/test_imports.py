"""Arrows only point down: which package may import which, read from the source.

Imports under TYPE_CHECKING count too: a module that needs to look up, even for a type, is in the wrong room.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from house.source import MODULES, SOURCE, name_of

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "nursery": {"errors"},
    "serde": {"errors"},
    "wire": {"errors"},
    "definitions": {"errors", "serde"},
    "replay": {"errors", "nursery", "serde", "definitions"},
    "workflow": {"errors", "nursery", "serde", "definitions", "replay"},
    "task": {"errors", "serde", "definitions", "wire"},
    "client": {"errors", "nursery", "serde", "definitions", "replay", "workflow", "wire"},
    "server": {"errors", "wire"},
}
ALLOWED["worker"] = {*ALLOWED, "worker"} - {"server", "worker"}
ALLOWED["blocking"] = {"errors", "definitions", "client"}
ALLOWED["testing"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED}
ALLOWED["__init__"] = {*ALLOWED} - {"server", "blocking", "testing", "cli", "__init__"}
ALLOWED["__main__"] = {"cli"}

# The one place that knows the host's loops, because it has to hide them from workflow code.
HOST_LOOPS_IN = SOURCE / "nursery" / "_host.py"


def room(path: Path) -> str:
    """The part of the architecture that a module belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a module imports anywhere, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            if node.module != "flovyn":  # `from flovyn import serde` imports the room, not the house
                found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def rooms(names: set[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "flovyn" and len(part) > 1 and part[1] in ALLOWED}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in ALLOWED, f"{here} is not in the architecture: give it a place in the table"
    assert rooms(imports(path)) - {here} <= ALLOWED[here]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_goes_through_the_front_door(path: Path) -> None:
    """What `flovyn` itself exports comes from every room, so importing it from inside would make every arrow legal."""
    if room(path) in {"cli", "testing", "__main__"}:
        return
    through = {name for name in imports(path) if name == "flovyn" or (name.startswith("flovyn.") and not rooms({name}))}
    assert through == set()


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    left = dict(ALLOWED)
    while left:
        ready = [name for name, below in left.items() if below - {name} <= done]
        assert ready, f"a cycle among {sorted(left)}"
        for name in ready:
            done.add(name)
            del left[name]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_host_world_code_knows_no_event_loop(path: Path) -> None:
    if path == HOST_LOOPS_IN:
        return
    loops = {name for name in imports(path) if name.split(".")[0] in {"asyncio", "trio", "uvloop"}}
    assert loops == set()
