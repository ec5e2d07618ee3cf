"""Definitions and short cuts that the tests of workflows share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from flovyn.definitions import AnyWorkflow, definition_of, task, workflow
from flovyn.replay.commands import CompleteWorkflow, ScheduleChild, ScheduleTask, SuspendWorkflow
from flovyn.replay.submission import Submission
from flovyn.workflow import WorkflowContext
from replay.replay_platform import Run, plain

CACHED = pytest.mark.parametrize("cached", [True, False], ids=["cached", "rebuilt"])


@dataclass(frozen=True)
class Order:
    id: str
    amount: int = 1


@task
async def charge(ctx: object, order: Order) -> int:
    return order.amount


@task
async def ship(ctx: object, item: str) -> str:
    return item


@workflow
async def invoice(ctx: WorkflowContext, month: str) -> Order:
    return Order(month)


def running(program: AnyWorkflow[..., Any], data: Any = None) -> Run:
    return Run(definition_of(program), data)


def reason(submission: Submission) -> str:
    """What a suspended workflow waits for."""
    last = submission.commands[-1]
    assert isinstance(last, SuspendWorkflow), submission.commands
    return last.reason


def scheduled(submission: Submission) -> list[str]:
    """The kinds of the tasks and children that a submission begins."""
    return [command.kind for command in submission.commands if isinstance(command, ScheduleTask | ScheduleChild)]


def result(submission: Submission) -> Any:
    """What a workflow returned, if that is all that it did in this activation."""
    (command,) = plain(submission)
    assert isinstance(command, CompleteWorkflow), command
    return json.loads(command.output)
