"""What a task knows about itself, without a worker."""

from __future__ import annotations

import logging

import pytest

from flovyn.errors import TaskCancelled
from flovyn.task import Cancellation, TaskContext


def test_defaults_are_enough_for_a_unit_test() -> None:
    context = TaskContext(task_execution_id="t1", kind="charge")
    assert (context.attempt, context.queue, context.workflow_execution_id) == (1, "default", None)
    assert (context.is_cancelled, context.cancel_reason) == (False, None)
    context.check_cancellation()
    assert repr(context) == "<TaskContext charge t1 attempt=1>"


def test_first_reason_stands() -> None:
    cancellation = Cancellation()
    context = TaskContext(task_execution_id="t1", kind="charge", cancellation=cancellation)
    cancellation.request("order withdrawn")
    cancellation.request("the worker is stopping", cause="stopping")
    assert (context.is_cancelled, context.cancel_reason, context.cancel_cause) == (True, "order withdrawn", "cancelled")
    with pytest.raises(TaskCancelled) as caught:
        context.check_cancellation()
    assert (caught.value.message, caught.value.task_id, caught.value.kind) == ("order withdrawn", "t1", "charge")


def test_logger_names_the_task(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    context = TaskContext(task_execution_id="t1", kind="charge", attempt=2, workflow_execution_id="wf-1")
    context.logger.info("charging %s", "7", extra={"order": 7})
    assert context.logger is context.logger
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("flovyn.task.charge", "charging 7")
    told = {name: vars(record)[name] for name in ("task_execution_id", "workflow_execution_id", "attempt", "order")}
    assert told == {"task_execution_id": "t1", "workflow_execution_id": "wf-1", "attempt": 2, "order": 7}
