"""Context variables: each task has its own, and none leaks into the host."""

from __future__ import annotations

from contextvars import Context, ContextVar

import anyio
from anyio.lowlevel import RunVar, checkpoint

from nursery.driving import Driver, run

variable: ContextVar[str] = ContextVar("variable", default="unset")


def test_a_step_leaks_nothing_into_the_host_nor_into_other_workflows() -> None:
    async def main(value: str) -> str:
        variable.set(value)
        await anyio.sleep(1)
        return variable.get()

    first, second = Driver(), Driver()
    for driver, value in ((first, "one"), (second, "two")):
        driver.run(main(value))
        assert variable.get() == "unset"
    assert (second.finish(), first.finish()) == ("two", "one")
    assert variable.get() == "unset"


def test_children_copy_the_context_of_whoever_starts_them() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def child(name: str) -> None:
            seen.append(f"{name} saw {variable.get()}")
            variable.set(name)
            await checkpoint()
            seen.append(f"{name} has {variable.get()}")

        variable.set("parent")
        async with anyio.create_task_group() as group:
            group.start_soon(child, "a")
            group.start_soon(child, "b")
        seen.append(variable.get())
        return seen

    assert run(main) == ["a saw parent", "b saw parent", "a has a", "b has b", "parent"]


def test_a_root_starts_in_a_copy_of_the_owners_context_unless_given_one() -> None:
    async def main() -> str:
        return variable.get()

    def values(context: Context | None) -> object:
        driver = Driver()
        driver.kernel.start(main(), name="root", done=driver.ended.append, context=context)
        return driver.finish()

    def as_owner() -> tuple[object, object]:
        variable.set("owner")
        return values(None), values(Context())

    assert Context().run(as_owner) == ("owner", "unset")


def test_run_variables_belong_to_the_kernel() -> None:
    counter: RunVar[int] = RunVar("counter", default=0)

    async def main() -> int:
        counter.set(counter.get() + 1)
        return counter.get()

    assert [run(main), run(main)] == [1, 1]
