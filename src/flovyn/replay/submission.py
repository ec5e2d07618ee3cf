"""What one activation hands to the server, and how a workflow ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from flovyn.replay.commands import CancelWorkflow, Command, CompleteWorkflow, FailWorkflow
from flovyn.serde.envelope import ErrorInfo, format_error

__all__ = ["Result", "Status", "Submission", "failure"]

Result = CompleteWorkflow | FailWorkflow | CancelWorkflow
"""How the program ended."""


class Status(enum.Enum):
    """The status that goes with a submission."""

    SUSPENDED = enum.auto()
    COMPLETED = enum.auto()
    FAILED = enum.auto()
    CANCELLED = enum.auto()

    @classmethod
    def of(cls, result: Result) -> Status:
        """The status of an end."""
        match result:
            case CompleteWorkflow():
                return cls.COMPLETED
            case FailWorkflow():
                return cls.FAILED
            case CancelWorkflow():
                return cls.CANCELLED


@dataclass(frozen=True, slots=True)
class Submission:
    """The commands of one activation: its marker first, what suspends or ends the workflow last."""

    commands: tuple[Command, ...]
    status: Status


def failure(error: BaseException, *, retryable: bool = True, failure_type: str = "ERROR") -> FailWorkflow:
    """End with an exception; the platform's tools show the traceback, the readers of the text find it there as well."""
    info = ErrorInfo.from_exception(error, retryable=retryable)
    return FailWorkflow(format_error(info), info.traceback or "", failure_type)
