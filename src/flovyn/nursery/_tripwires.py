"""What happens when workflow code calls something whose outcome no history has."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeAlias

from flovyn.errors import ConfigurationError, DeterminismError, DeterminismWarning
from flovyn.nursery._caller import find_caller
from flovyn.nursery._current import stepping

if TYPE_CHECKING:
    from flovyn.nursery._caller import Caller

__all__ = ["Kind", "Switch", "Tripwires", "trip"]

Switch: TypeAlias = Literal["error", "warn", "off"]
Kind: TypeAlias = Literal["files", "network", "processes", "threads", "sleeping", "clock", "randomness"]

_SWITCHES = ("error", "warn", "off")
_EFFECT = "do it in ctx.run(...) if it is short, in a task otherwise"
_INSTEAD: dict[Kind, str] = {
    "files": _EFFECT,
    "network": _EFFECT,
    "processes": _EFFECT,
    "threads": "await the code directly, or move it to ctx.run(...) or a task",
    "sleeping": "use `await anyio.sleep(...)`, a durable timer",
    "clock": "use ctx.current_time() or anyio.current_time(), which read the same on every replay",
    "randomness": "use ctx.random() or ctx.random_uuid(), which draw the same on every replay",
}


@dataclass(frozen=True, slots=True)
class Tripwires:
    """What becomes of a call that reaches outside while workflow code makes a step; see also `arm_tripwires`.

    It counts only if the nearest caller outside the standard library is workflow code: what installed packages do on
    their own account is theirs. Imports, logging, warnings and debuggers never count. Nothing of this is a sandbox:
    `datetime.now()`, and a function that was bound by `from time import time`, go unseen.

    Attributes:
        files: Opening, listing, moving and removing files; SQLite.
        network: Sockets, name lookups, HTTP.
        processes: Starting programs and sending signals.
        threads: Starting threads.
        sleeping: `time.sleep`.
        clock: The clocks of `time`.
        randomness: `random`, `secrets`, `os.urandom` and the random UUIDs.
        allow: Names of modules (with everything below them) whose calls are let pass.
        code: Top-level packages that are workflow code although they are installed.

    Raises:
        ConfigurationError: A switch is none of "error", "warn" and "off".

    Example:
        >>> import anyio, time
        >>> from flovyn.errors import DeterminismError
        >>> async def main():
        ...     time.sleep(1)
        >>> try:
        ...     anyio.run(main, backend="flovyn", backend_options={"tripwires": Tripwires()})
        ... except DeterminismError as error:
        ...     print(error)
        workflow code called time.sleep(...), which no replay can follow; use `await anyio.sleep(...)`, a durable timer
    """

    files: Switch = "error"
    network: Switch = "error"
    processes: Switch = "error"
    threads: Switch = "error"
    sleeping: Switch = "error"
    clock: Switch = "warn"
    randomness: Switch = "warn"
    allow: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("allow", "code"):
                if not isinstance(value, tuple):
                    raise ConfigurationError(f"Tripwires({field.name}=...) is a tuple of names, not {value!r}")
            elif value not in _SWITCHES:
                raise ConfigurationError(f"Tripwires({field.name}=...) is one of {_SWITCHES}, not {value!r}")

    @property
    def guards(self) -> bool:
        """Whether something is watched that announces itself to no audit hook: it has a price at each activation."""
        return any(switch != "off" for switch in (self.clock, self.randomness, self.sleeping, self.threads))


def trip(kind: Kind, call: str) -> None:
    """A call was made that reaches outside: nothing happens unless workflow code made it, in a step, on this thread.

    Args:
        kind: Which switch decides.
        call: The name of the builtin that was called, for want of a better one.

    Raises:
        DeterminismError: The switch says "error".
    """
    kernel = stepping.kernel
    if kernel is None or kernel.current is None or kernel.tripwires is None:
        return
    tripwires = kernel.tripwires
    switch: Switch = getattr(tripwires, kind)
    if switch == "off":
        return
    caller = find_caller(sys._getframe(2))  # noqa: SLF001  # `inspect` is slow
    if caller is None or not _counts(tripwires, caller):
        return
    message = f"workflow code called {caller.called or call}(...), which no replay can follow; {_INSTEAD[kind]}"
    if switch == "error":
        raise DeterminismError(message)
    frame = caller.frame
    warnings.warn_explicit(
        message,
        DeterminismWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=caller.module,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _counts(tripwires: Tripwires, caller: Caller) -> bool:
    if caller.installed and caller.module.partition(".")[0] not in tripwires.code:
        return False
    return not any(caller.module == name or caller.module.startswith(f"{name}.") for name in tripwires.allow)
