"""The commands of a submission that the program did not ask for: reserved timers, and cancels that were put off.

They stand outside the numbering. A reserved timer's name ends in the activation's id, so that a fork cannot take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flovyn.replay.commands import CancelTimer, Command, StartTimer
from flovyn.replay.names import AGAIN, CANCELS, RESERVED, SOON

if TYPE_CHECKING:
    from flovyn.replay.history import History
    from flovyn.replay.timers import DurableTimers

__all__ = ["reserved_commands"]

_CANCELS_MS: Final = 2_000
"""How soon a crash between a submission and the CancelTask calls that it owes is noticed."""


def reserved_commands(
    history: History,
    timers: DurableTimers,
    *,
    activation: int,
    salt: str,
    now: float,
    soon: bool,
    owed: bool,
    fenced: bool,
) -> list[Command]:
    """The reserved commands of a live activation that does not end the workflow.

    Args:
        history: What was read before the activation ran.
        timers: The timers of the program.
        activation: The number of the activation.
        salt: Its id.
        now: Its clock, Unix seconds.
        soon: There is more to do at once.
        owed: CancelTask calls are owed.
        fenced: The submission is the only one that the server takes. Elsewhere a timer that this activation has left is
            cancelled by the next one, when the decision stands in history: a submission that does not come to count
            cannot have cancelled what another waits for.
    """
    armed = history.armed
    timers.forget_doomed(armed)
    left = [timer for timer, when in timers.doomed.items() if fenced or when < activation]
    commands: list[Command] = [CancelTimer(timer) for timer in [*left, *history.stray_timers] if timer in armed]

    reserved = [timer for timer in armed if timer.startswith(RESERVED)]  # the program's own may be thousands

    def keep(name: str, wanted: bool, duration_ms: int) -> None:
        mine = [timer for timer in reserved if timer.startswith(f"{name}/")]
        if wanted and not mine:
            commands.append(StartTimer(f"{name}/{salt}", duration_ms))
        elif not wanted:
            commands.extend(CancelTimer(timer) for timer in mine)

    keep(SOON, soon, 0)
    keep(CANCELS, owed and not soon, _CANCELS_MS)
    if history.foreign:
        for timer in timers.awaited():
            # Started by a block that counts, yet neither armed nor fired: a block that does not count has cancelled it.
            if timer.activation < activation and timer.id not in armed and timer.id not in history.fired:
                keep(f"{AGAIN}/{timer.id}", True, max(0, round((timer.due - now) * 1000)))
    stand_ins = {timer.split("/")[1]: None for timer in reserved if timer.startswith(f"{AGAIN}/")}
    for identity in stand_ins:
        if not timers.is_awaited(identity):
            keep(f"{AGAIN}/{identity}", False, 0)
    return commands
