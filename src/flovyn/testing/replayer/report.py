"""What came of replaying a history."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

from flovyn.errors import DeterminismViolation

__all__ = ["Report", "Status"]

Status = Literal["equal", "violation", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of replaying one history.

    Attributes:
        status: `equal`: the code does what the history says, as far as that goes. `violation`: they part. `error`:
            there was no replaying it, or the code reached outside or never came to rest.
        workflow_id: The id of the execution; None if the history could not be read.
        kind: The kind of the workflow, likewise.
        source: The file that the history was read from, or whatever else it is known by.
        activations: How many activations went as the history says.
        events: The first and the last event of the activation where they part; None where there is none.
        diff: The commands of that activation, as the history has them (`-`) and as the code gives them now (`+`).
        error: The violation or the error; None if all is equal.
    """

    status: Status
    workflow_id: str | None
    kind: str | None
    source: str | None
    activations: int = 0
    events: tuple[int, int] | None = None
    diff: str = ""
    error: Exception | None = None

    def __str__(self) -> str:
        text = f"{self.status}: {self._name()}: "
        match self.status:
            case "equal":
                return text + (f"{self.activations} activations" if self.activations != 1 else "1 activation")
            case "violation":
                return f"{text}{self.error}\n{self.diff}".rstrip()
            case "error":
                return f"{text}{type(self.error).__name__}: {str(self.error).removeprefix(f'{self._name()}: ')}"

    @property
    def trace(self) -> str:
        """Where the error came from, as Python shows it; empty unless the status is `error`."""
        if self.status != "error" or self.error is None:
            return ""
        return "".join(traceback.format_exception(self.error))

    def raise_for_status(self) -> None:
        """Do nothing if all is equal.

        Raises:
            DeterminismViolation: Code and history part; the message ends in the diff.
            Exception: Whatever else went wrong, as it was raised.
        """
        if isinstance(self.error, DeterminismViolation):
            violation = self.error
            raise DeterminismViolation(
                f"{self._name()}: {violation}\n{self.diff}".rstrip(), expected=violation.expected, got=violation.got
            ) from violation
        if self.error is not None:
            raise self.error

    def as_data(self) -> dict[str, Any]:
        """This report as plain JSON data."""
        return {
            "status": self.status,
            "workflowId": self.workflow_id,
            "kind": self.kind,
            "source": self.source,
            "activations": self.activations,
            "events": self.events,
            "diff": self.diff,
            "error": None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)},
            "trace": self.trace,
        }

    def _name(self) -> str:
        parts = [] if self.kind is None or self.workflow_id is None else [self.kind, self.workflow_id]
        if self.source is not None and self.source != self.workflow_id:
            parts.append(f"({self.source})" if parts else self.source)
        return " ".join(parts)
