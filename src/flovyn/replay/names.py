"""The names that belong to the SDK. Whatever bears one stands outside the program's numbering."""

from __future__ import annotations

from typing import Final

__all__ = ["ACTIVATION", "AGAIN", "CANCELS", "HOLD", "PATCHED", "RESERVED", "SOON", "timer_of"]

RESERVED: Final = "$flovyn"

ACTIVATION: Final = f"{RESERVED}.activation"
"""The operation that begins each submission: its marker."""

PATCHED: Final = f"{RESERVED}.patched:"
"""An operation that begins so remembers that the run has taken the new way at a patch, whose id follows."""

SOON: Final = f"{RESERVED}.soon"
"""A 0 ms timer: there is more to do at once."""

CANCELS: Final = f"{RESERVED}.cancels"
"""A timer that brings the workflow back should the CancelTask calls that it owes be lost."""

AGAIN: Final = f"{RESERVED}.again"
"""Stands for a timer of the program that a submission which does not count has cancelled."""

HOLD: Final = f"{RESERVED}.hold"
"""A timer that brings back a workflow whose code and history disagree."""


def timer_of(identity: str) -> str | None:
    """The timer of the program that a timer is, or stands for; None if it is a reserved one."""
    if identity.startswith(f"{AGAIN}/"):
        return identity.split("/")[1]
    return None if identity.startswith(RESERVED) else identity
