"""Clocks and randomness announce themselves to no audit hook: while a kernel steps, stand-ins take their places.

The stand-ins belong to the whole process, so they are there as shortly as possible: other threads pass through them.
"""

from __future__ import annotations

import _thread
import os
import random
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from flovyn.nursery._current import stepping
from flovyn.nursery._tripwires import trip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from flovyn.nursery._tripwires import Kind

__all__ = ["install", "uninstall"]


# These read the clock only if they are given no moment: as this argument, or None in its place.
_MOMENTS = {"localtime": 0, "gmtime": 0, "ctime": 0, "asctime": 0, "strftime": 1}


def _watched() -> Iterator[tuple[Kind, ModuleType, str]]:
    for name in _MOMENTS:
        yield "clock", time, name
    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"):
        yield "clock", time, name
    for name in ("random", "getrandbits", "_urandom"):  # `secrets` and `SystemRandom` draw from the last
        yield "randomness", random, name
    yield "randomness", os, "urandom"  # `uuid4` draws from it
    yield "randomness", uuid, "uuid1"
    # Newer Pythons announce these.
    if sys.version_info < (3, 13):
        yield "sleeping", time, "sleep"
    if sys.version_info < (3, 12):
        yield "threads", threading, "_start_new_thread"
        yield "threads", _thread, "start_new_thread"


def _guard(index: int, kind: Kind, module: ModuleType, name: str) -> Callable[..., Any]:
    call = f"{module.__name__}.{name.removeprefix('_')}"
    moment = _MOMENTS.get(name) if module is time else None

    def guard(*args: Any, **kwargs: Any) -> Any:
        if stepping.kernel is not None and (moment is None or len(args) <= moment or args[moment] is None):
            trip(kind, call)
        return _originals[index](*args, **kwargs)

    return guard


# What stood in each place when it was last taken. Flat lists: this happens at each activation of each workflow.
_originals: list[Any] = [getattr(module, name) for _, module, name in _watched()]
_guards: list[tuple[dict[str, Any], str, Callable[..., Any]]] = [
    (vars(module), name, _guard(index, kind, module, name)) for index, (kind, module, name) in enumerate(_watched())
]
# What `random` offers besides are methods of this instance, and draw from these two.
_instance: dict[str, Any] = vars(random._inst)  # noqa: SLF001
_methods = {name: guard for _, name, guard in _guards if name in ("random", "getrandbits")}

_placing = threading.Lock()
_users = 0


def install() -> None:
    """Put the stand-ins in place, unless another kernel has."""
    global _users  # noqa: PLW0603  # what they replace is the process's, too
    with _placing:
        _users += 1
        if _users > 1:
            return
        for index, (namespace, name, guard) in enumerate(_guards):
            if namespace[name] is not guard:  # somebody who patches clocks took it for the real one, and put it back
                _originals[index] = namespace[name]
                namespace[name] = guard
        _instance.update(_methods)


def uninstall() -> None:
    """Take them away again, unless another kernel needs them. What somebody else put there meanwhile stays."""
    global _users  # noqa: PLW0603  # likewise
    with _placing:
        _users -= 1
        if _users > 0:
            return
        for (namespace, name, guard), original in zip(_guards, _originals, strict=True):
            if namespace[name] is guard:
                namespace[name] = original
        for name in _methods:
            del _instance[name]
