"""What all errors have in common: they show what they know, can be pickled, and are found where users look for them."""

from __future__ import annotations

import inspect
import pickle
import traceback
from typing import Any

import pytest

import flovyn
from flovyn import errors
from flovyn.errors import (
    AllFailed,
    ChildWorkflowCancelled,
    ChildWorkflowFailed,
    DeterminismViolation,
    FlovynError,
    RemoteError,
    TaskCancelled,
    TaskFailed,
    WorkflowFailed,
)
from flovyn.serde.envelope import format_error, parse_error

CLASSES: list[type[Any]] = [getattr(errors, name) for name in errors.__all__]


def made(kind: type[FlovynError]) -> FlovynError:
    """One of a kind, with something for everything that it takes."""
    values: dict[str, Any] = {"size": 2, "limit": 1, "attempts": 3, "retryable": False, "errors": [ValueError("no")]}
    arguments = {
        name: values.get(name, f"the {name}") for name in inspect.signature(kind).parameters if name != "members"
    }
    positional = [arguments.pop(name) for name in ("message", "errors") if name in arguments]
    return kind(*positional, **arguments)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, FlovynError)])
def test_errors_can_be_pickled_and_keep_what_they_know(kind: type[FlovynError]) -> None:
    error = made(kind)
    error.__cause__ = RemoteError("no such card", type="KeyError", traceback="Traceback ...")
    error.__cause__.__cause__ = RemoteError("", type="OSError")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is kind
        assert (str(copy), repr(copy)) == (str(error), repr(error))
        assert {key: str(value) for key, value in vars(copy).items()} == {
            key: str(value) for key, value in vars(error).items()
        }
        assert repr(copy.__cause__) == "RemoteError('no such card', type='KeyError')"
        assert isinstance(copy.__cause__, RemoteError)
        assert copy.__cause__.traceback == "Traceback ..."
        assert repr(copy.__cause__.__cause__) == "RemoteError('', type='OSError')"


def test_a_printed_traceback_goes_on_where_it_began() -> None:
    try:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise LookupError("no such card") from error
    except LookupError as error:
        told = parse_error(format_error(error)).as_exception()
    failed = WorkflowFailed("LookupError: no such card", workflow_id="wf-1")
    failed.__cause__ = told
    printed = "".join(traceback.format_exception(failed))
    order = ["RemoteError: KeyError: 'card'", "RemoteError: LookupError: no such card", "Traceback", "WorkflowFailed: "]
    places = [printed.index(text) for text in order]
    assert places == sorted(places)
    assert "in test_a_printed_traceback_goes_on_where_it_began" in printed


def test_what_is_not_of_this_package_is_left_out_of_a_pickle() -> None:
    error = WorkflowFailed("no", workflow_id="wf-1")
    error.__cause__ = ValueError("mine")
    assert pickle.loads(pickle.dumps(error)).__cause__ is None


@pytest.mark.parametrize("kind", CLASSES)
def test_users_find_all_of_them_at_the_top(kind: type[Any]) -> None:
    assert getattr(flovyn, kind.__name__) is kind
    assert kind.__module__ == "flovyn.errors"


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, FlovynError)])
def test_each_belongs_to_those_who_have_to_act(kind: type[FlovynError]) -> None:
    sides = {
        errors.UsageError,
        errors.DeterminismError,
        errors.ServerError,
        errors.TransportError,
        errors.ExecutionError,
        errors.RemoteError,
    }
    assert kind is FlovynError or len(sides & set(kind.__mro__)) == 1


def test_they_show_what_they_know() -> None:
    failed = TaskFailed("ValueError: no", task_id="t", kind="charge", error_type="ValueError")
    assert (
        repr(failed)
        == "TaskFailed('ValueError: no', task_id='t', kind='charge', retryable=True, error_type='ValueError')"
    )
    violation = DeterminismViolation("they part", expected="a task", got="a timer")
    assert repr(violation) == "DeterminismViolation('they part', expected='a task', got='a timer')"
    child = ChildWorkflowFailed("no", workflow_id="", name="june", kind="order")
    assert repr(child) == "ChildWorkflowFailed('no', name='june', kind='order')"
    assert str(AllFailed([ValueError("a"), KeyError("b")])) == "all 2 failed: ValueError: a; KeyError: 'b'"


def test_a_subclass_of_a_users_own_can_be_shown_and_pickled() -> None:
    error = Declined(7)
    assert (repr(error), str(error)) == ("Declined('card 7', number=7)", "card 7")
    copy = pickle.loads(pickle.dumps(error))
    assert (repr(copy), copy.number) == ("Declined('card 7', number=7)", 7)


class Declined(errors.NonRetryableError):
    def __init__(self, number: int) -> None:
        super().__init__(f"card {number}")
        self.number = number


def test_the_reason_of_a_cancellation_is_its_message() -> None:
    assert TaskCancelled("no longer wanted", task_id="t", kind="k").reason == "no longer wanted"
    assert ChildWorkflowCancelled("too late", workflow_id="w", name="n", kind="k").reason == "too late"
