"""Workflow code that left the deterministic world, or disagrees with its history."""

from __future__ import annotations

from flovyn.errors.base import FlovynError

__all__ = [
    "DeterminismError",
    "DeterminismViolation",
    "DeterminismWarning",
    "RunawayWorkflow",
]


class DeterminismError(FlovynError):
    """Workflow code reached outside the deterministic world; the message names what to use instead."""


class DeterminismViolation(DeterminismError):
    """The code of a workflow disagrees with its recorded history.

    Args:
        message: The disagreement, in the platform's own words.
        expected: What history has, if anything.
        got: What the code did, if anything.
    """

    def __init__(self, message: str, *, expected: str | None = None, got: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class DeterminismWarning(UserWarning):
    """Workflow code read a clock or drew a random number; the message names what to use instead."""


class RunawayWorkflow(DeterminismError):
    """A workflow took more scheduler steps than allowed without coming to rest."""
