"""What is to be seen of a cell: the two tables of docs/cancellation.md, as a program that waits in words only.

It knows nothing of the code that is tested: neither of scopes nor of histories, but of what a server is to be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from cancellation.programs import REASON
from cancellation.table import Cell, When

__all__ = ["Deed", "Expected", "Phase", "expected"]

Deed = Literal["start", "go", "cancel", "end of it", "end"]
"""What the outside world does: start the workflow; say that it may come to the await; have the scope cancelled; have
the operation end; say that a workflow which has left its inner scope may end."""

EVENTS: Final = {
    "schedule": ("TASK_SCHEDULED",),
    "start": ("TIMER_STARTED",),
    "promise": ("PROMISE_CREATED",),
    "child": ("CHILD_WORKFLOW_INITIATED",),
    "record": ("OPERATION_COMPLETED",),
    "suspend": ("WORKFLOW_SUSPENDED",),
    "complete": ("WORKFLOW_COMPLETED",),
    "end": ("WORKFLOW_CANCELLED",),
    "CancelTask": ("TASK_CANCELLED", "TASK_FAILED"),
}
"""What the server writes for a command or a call, by its first word."""

CREATED: Final[dict[str, str]] = {"task": "PENDING", "child": "PENDING", "timer": "ARMED", "promise": "PENDING"}
OPEN: Final = ("PENDING", "RUNNING", "ARMED")
ENDED: Final[dict[str, str]] = {"task": "COMPLETED", "child": "COMPLETED", "timer": "", "promise": "RESOLVED"}


@dataclass(frozen=True)
class Phase:
    """Some deeds, and what the activations behind them ask for: commands, and then calls.

    Attributes:
        kept: What the server then keeps, by its status.
        late: The operation has ended already, or was given up: its end comes too late, and changes nothing.
    """

    deeds: tuple[Deed, ...]
    activations: tuple[tuple[str, ...], ...]
    kept: dict[str, str]
    late: bool = False


@dataclass
class Expected:
    """All that is to be seen of a cell."""

    phases: list[Phase] = field(default_factory=list[Phase])
    events: list[str] = field(default_factory=list[str])
    notes: list[object] = field(default_factory=list[object])
    status: str = ""


class Model:
    """The workflow of a cell, and its server."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.what = cell.what
        self.at: Literal["start", "gate", "operation", "next", "left", "over"] = "start"
        self.cancelled = False
        self.holder = cell.operation == "lock"  # another task holds the lock, and stays until that is to be released
        self.signals = 0  # that nobody has taken
        self.unseen: list[str] = []  # events since the last activation
        self.kept: dict[str, str] = {}  # what the server keeps, by its status
        self.commands: list[str] = []
        self.given_up: set[str] = set()  # what the program does not want any more
        self.reserved: list[str] = []  # timers
        self.told = Expected()

    # --- the program ------------------------------------------------------------------------

    def enter(self) -> None:
        """Begin the operation, unless its scope is cancelled: then nothing begins."""
        if self.cancelled and not self.cell.is_shielded:
            self.leave()
            return
        self.at = "operation"
        self.commands += self.what.begins
        self.kept.update({thing: CREATED[thing] for thing in self.what.things})
        if self.cell.operation == "run":
            self.run()

    def run(self) -> None:
        """Operations of `ctx.run` come first: they are answered before anything else is shown."""
        raced, given_up = self.cell.is_raced, False
        if raced and self.cell.when != "end first":
            self.cancelled = True
            given_up = not self.cell.is_shielded
        self.commands.append(f"record work: {'cancelled' if given_up else 'value'}")
        if raced:
            # Records stand in call order: the workflow's own task comes to its call before the one that cancels does.
            self.commands.append("record cancel: value")
        if given_up:
            self.leave()
            return
        self.ended()
        if raced and not self.cancelled:
            self.cancel()

    def ended(self) -> None:
        """The operation ends with its value; behind it stands another wait, in no shield."""
        self.told.notes.append(self.what.value)
        self.at = "next"
        if self.cancelled:
            self.leave()

    def cancel(self) -> None:
        """The scope is cancelled: what stands inside ends now, unless it is shielded."""
        self.cancelled = True
        if self.at == "next":
            self.leave()
        elif self.at == "operation" and not self.cell.is_shielded:
            if self.what.on_cancel != "abandon":
                # A promise keeps its name, and is nobody's to cancel.
                self.given_up = {thing for thing in self.what.things if thing != "promise"}
            if self.what.on_cancel != "wait":
                self.leave()

    def leave(self) -> None:
        """The cancelled exception leaves the scope. From an inner one the workflow goes on; the root one ends it."""
        by = " (cancelled by task 'the canceller')" if self.cell.is_inner else ""
        self.told.notes.append(f"Cancelled: {REASON}{by}")
        self.at = "left"
        if self.cell.is_inner:
            self.told.notes.append(True)
        else:
            self.over()

    def over(self) -> None:
        if self.at == "left" and not self.holder:
            self.at = "over"

    def show(self, event: str) -> None:
        """Show the program one event."""
        match event:
            case "go":
                self.enter()
            case "cancel":
                self.cancel()
            case "the end of it":
                self.holder = False
                if self.at == "operation":
                    self.signals -= self.cell.operation == "signal"
                    self.ended()
                elif self.at == "left" and not self.cell.is_inner:
                    self.over()
            case "the task was cancelled" | "the child was cancelled" if self.at == "operation":
                self.leave()  # the wait went on until then
            case "end":
                if self.what.keeps_signal:
                    self.told.notes.append(self.signals)
                if "promise" in self.kept:
                    self.told.notes.append(self.what.value)
                self.over()
            case _:
                pass

    # --- the worker -------------------------------------------------------------------------

    def activate(self) -> tuple[str, ...]:
        """Show everything that is new, and submit."""
        news, self.unseen = self.unseen, []
        if self.at == "start":
            self.at = "gate"
            if not self.cell.is_gated:
                self.enter()
        for event in news:
            self.show(event)
        program, self.commands = self.commands, []
        # What has ended needs no cancelling, whoever was first.
        self.given_up = {thing for thing in self.given_up if self.kept[thing] in OPEN}
        commands = [*program, *self.ask(self.given_up)]
        calls = self.call(self.given_up, commands)
        asked = (*commands, *calls)
        self.write(asked)
        return asked

    def ask(self, given_up: set[str]) -> list[str]:
        """The commands by which the server is told what was given up, the reserved timers of rule 8, and the end."""
        over = self.at == "over"
        # A child is asked by a command, with every submission until it has ended.
        asks = ["cancel child part-1"] if "child" in given_up else []
        if over and "task" not in given_up:
            return [*asks, "complete" if self.cell.is_inner else f"end as cancelled: {REASON}"]
        commands = [*asks]
        if "timer" in given_up:
            commands.append("cancel timer")
        wanted = []
        if over:
            wanted = ["$flovyn.soon"]
        elif "task" in given_up:
            wanted = ["$flovyn.cancels"]
        commands += [f"start {timer}" for timer in wanted if timer not in self.reserved]
        commands += [f"cancel {timer}" for timer in self.reserved if timer not in wanted]
        self.reserved = wanted
        return [*commands, "suspend"]

    def call(self, given_up: set[str], commands: list[str]) -> list[str]:
        """CancelTask is a call, made once the submission is accepted."""
        return ["CancelTask"] if "task" in given_up and commands[-1] == "suspend" else []

    # --- the server -------------------------------------------------------------------------

    def write(self, asked: tuple[str, ...]) -> None:
        self.told.events.append("OPERATION_COMPLETED")  # the marker
        for command in asked:
            match command.split(" ", 2):
                case ["cancel", "child", _]:
                    pass  # no event of the parent's
                case ["cancel", _]:
                    self.told.events.append("TIMER_CANCELLED")
                    if command == "cancel timer":
                        self.kept["timer"] = ""
                case words:
                    self.told.events += EVENTS[words[0]]
        if asked[-1] not in ("suspend", "CancelTask"):
            self.told.status = "COMPLETED" if asked[-1] == "complete" else "CANCELLED"
            self.close()
        if "CancelTask" in asked:
            self.kept["task"] = "CANCELLED"
            self.unseen.append("the task was cancelled")
        if "cancel child part-1" in asked:
            self.kept["child"] = "CANCELLED"
            if not self.told.status:  # a parent that has ended is not told
                self.told.events.append("CHILD_WORKFLOW_FAILED")
                self.unseen.append("the child was cancelled")
        if "start $flovyn.soon" in asked:
            self.told.events.append("TIMER_FIRED")
            self.unseen.append("soon")
            self.reserved = []
        if self.kept.get("task") == "PENDING":
            self.kept["task"] = "RUNNING"  # whoever works on tasks takes it at once

    def close(self) -> None:
        """The end of a workflow: its tasks are cancelled, its timers go, its promises are closed; children go on."""
        if "timer" in self.kept:
            self.kept["timer"] = ""
        if self.kept.get("task") in OPEN:
            self.kept["task"] = "CANCELLED"
        if self.kept.get("promise") == "PENDING":
            self.kept["promise"] = "CLOSED"

    def do(self, deed: Deed) -> bool:
        """The outside world acts; returns whether that changes anything."""
        if self.told.status:
            if deed == "end of it" and self.kept.get("child") == "PENDING":
                self.kept["child"] = "COMPLETED"  # it goes on when its parent has ended, who is not told
            return False
        match deed:
            case "start":
                self.told.events.append("WORKFLOW_STARTED")
                self.unseen.append("start")
                return True
            case "end of it":
                return self.do_end()
            case "cancel" if not self.cell.is_inner:
                self.told.events.append("CANCELLATION_REQUESTED")
            case _:
                self.told.events.append("SIGNAL_RECEIVED")
        self.unseen.append(deed)
        return True

    def do_end(self) -> bool:
        events: list[str] = []
        for thing, event in self.what.ends:
            if thing is None or self.kept.get(thing) in OPEN:
                events.append(event)
                if thing is not None:
                    self.kept[thing] = ENDED[thing]
        if events:
            self.signals += self.what.keeps_signal
            self.told.events += events
            self.unseen.append("the end of it")
        return bool(events)


SCRIPTS: Final[dict[When, list[tuple[Deed, ...]]]] = {
    "before": [("cancel", "go"), ("end of it",)],
    "while": [("cancel",), ("end of it",)],
    "cancel first": [("cancel", "end of it")],
    "end first": [("end of it", "cancel")],
    "after": [("end of it",), ("cancel",)],
}
"""What happens, phase by phase: between two phases everything comes to rest."""


def deeds(cell: Cell) -> list[tuple[Deed, ...]]:
    """The phases of a cell."""
    phases: list[tuple[Deed, ...]] = [("start",)]
    if cell.operation != "run":
        phases += SCRIPTS[cell.when]
    elif cell.is_gated and cell.when == "end first":  # it is called for in the activation that sees the request
        phases.append(("go", "cancel"))
    elif not cell.is_raced:  # otherwise what cancels is another operation of the first activation
        for phase in SCRIPTS[cell.when]:
            phases.append(tuple(deed for deed in phase if deed != "end of it"))
    if cell.is_inner:
        phases.append(("end",))
    return [phase for phase in phases if phase]


def expected(cell: Cell) -> Expected:
    """What is to be seen of a cell."""
    model = Model(cell)
    for phase in deeds(cell):
        if "end of it" in phase and model.what.things and not model.kept:
            continue  # what never began has no end, not even a late one
        changed = [model.do(deed) for deed in phase]
        activations: list[tuple[str, ...]] = []
        while model.unseen and not model.told.status:
            activations.append(model.activate())
        kept = {thing: status for thing, status in model.kept.items() if status}
        model.told.phases.append(Phase(phase, tuple(activations), kept, late=not all(changed)))
    return model.told
