"""Resources, found by type."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import pytest

from flovyn import ConfigurationError, TaskContext, UsageError
from flovyn.task import Resources


class Database(ABC):
    @abstractmethod
    def name(self) -> str: ...


class Postgres(Database):
    def name(self) -> str:
        return "pg"


class Sqlite(Database):
    def name(self) -> str:
        return "sqlite"


@runtime_checkable
class Named(Protocol):
    def name(self) -> str: ...


class Unchecked(Protocol):
    def name(self) -> str: ...


def test_the_one_of_a_type_or_of_a_subclass_is_found() -> None:
    postgres = Postgres()
    resources = Resources(postgres, 3, "text")
    assert resources.find(Postgres) is postgres
    assert resources.find(Database) is postgres  # type: ignore[type-abstract]
    assert resources.find(Named) is postgres  # type: ignore[type-abstract]
    assert (resources.find(int), resources.find(str)) == (3, "text")


@pytest.mark.parametrize(
    ("resources", "wanted", "text"),
    [
        (Resources(), Postgres, "no resource of type Postgres; its lifespan yields none (see Worker(lifespan=...))"),
        (Resources(3, "text"), Postgres, "no resource of type Postgres; its lifespan yields int, str"),
        (
            Resources(Postgres(), Sqlite()),
            Database,
            "2 resources of this worker are Database: Postgres, Sqlite; ask for a type that only one has",
        ),
    ],
)
def test_none_and_several_are_errors_that_say_what_there_is(resources: Resources, wanted: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        resources.find(wanted)


@pytest.mark.parametrize("wanted", [Unchecked, "Postgres", list[int]], ids=str)
def test_what_nothing_can_be_an_instance_of_is_a_mistake(wanted: Any) -> None:
    with pytest.raises(UsageError, match="resources cannot be found by .*: give a class, or a Protocol that"):
        Resources(Postgres()).find(wanted)


def test_contexts_find_them() -> None:
    context = TaskContext(task_execution_id="t1", kind="k", resources=Resources(7))
    assert context.resource(int) == 7
    with pytest.raises(ConfigurationError, match="no resource of type str; its lifespan yields int$"):
        context.resource(str)
