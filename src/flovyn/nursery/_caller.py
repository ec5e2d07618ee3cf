"""Whose code it is that reaches outside: found by looking up the stack of a step."""

from __future__ import annotations

import os
import sysconfig
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import anyio

from flovyn import errors

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Caller", "find_caller"]

_STANDARD = tuple({os.path.dirname(os.__file__) + os.sep, sysconfig.get_path("stdlib") + os.sep})  # noqa: PTH120
_PASSED = tuple(os.path.dirname(str(module.__file__)) + os.sep for module in (errors, anyio))  # noqa: PTH120
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

# What these do inside a step, they do once a process or for people who watch: nothing that a replay could miss.
_FORGIVEN = frozenset(
    (
        "importlib",
        "_frozen_importlib",
        "_frozen_importlib_external",
        "zipimport",
        "linecache",
        "logging",
        "traceback",
        "warnings",
        "weakref",
        "zoneinfo",
        "bdb",
        "cmd",
        "pdb",
    )
)
_KERNEL = "flovyn.nursery.kernel"


class Caller(NamedTuple):
    """The nearest caller outside the standard library, AnyIO and this package.

    Attributes:
        frame: Where it stands.
        module: The name of its module.
        called: What it called, as far as a Python function tells; None if it called a builtin directly.
        installed: Whether it comes from an installed package.
    """

    frame: FrameType
    module: str
    called: str | None
    installed: bool


def find_caller(frame: FrameType | None) -> Caller | None:
    """The caller to whom a call belongs.

    Args:
        frame: Where to begin to look.

    Returns:
        None if the step itself made the call, or if it was made by an import, by logging, or by something of the kind.
    """
    called: FrameType | None = None
    found: Caller | None = None
    while frame is not None:
        module = _module(frame)
        if module == _KERNEL:
            break
        kind = _kind(frame)
        if kind == "standard" and (module.partition(".")[0] in _FORGIVEN or frame.f_code.co_name == "__del__"):
            return None
        if found is None:
            if kind in ("standard", "passed"):
                called = frame
            else:
                found = Caller(frame, module, None if called is None else _name(called), kind == "installed")
        elif kind == "own" and _is_generated(found.frame):
            found = found._replace(frame=frame)  # generated code has no line to show
        frame = frame.f_back
    return found


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _name(frame: FrameType) -> str:
    """As people know it: `pathlib.Path.read_text`, wherever this version of Python keeps it."""
    public = [part for part in _module(frame).split(".") if not part.startswith("_")]
    return ".".join([*public, frame.f_code.co_qualname.removesuffix(".__init__")])


def _kind(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    return _kind_of(str(frame.f_globals.get("__file__", path)) if _is_generated(frame) else path)


def _is_generated(frame: FrameType) -> bool:
    """Whether its code was made by `exec`: the `__init__` of a dataclass, say."""
    path = frame.f_code.co_filename
    return path.startswith("<") and not path.startswith(("<frozen ", "<doctest "))


@lru_cache(maxsize=4096)
def _kind_of(path: str) -> str:
    """One of "passed", "installed", "standard", "own"."""
    if path.startswith(_PASSED):
        return "passed"
    if any(part in path for part in _INSTALLED):
        return "installed"
    if path.startswith(_STANDARD) or path.startswith("<frozen "):
        return "standard"
    return "own"
