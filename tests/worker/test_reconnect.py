"""Strategies of reconnection, by themselves and in a worker."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from flovyn import ConfigurationError, ServerUnavailable, TaskContext, UsageError, task
from flovyn.worker import ExponentialReconnect, FixedReconnect, NoReconnect, Outage, ReconnectStrategy, Worker
from worker.fakes import FakeServer

pytestmark = pytest.mark.anyio

AWAY = ServerUnavailable("away")


def waits(strategy: ReconnectStrategy, count: int) -> list[float | None]:
    return [strategy(Outage(attempt, AWAY, 0.0)) for attempt in range(1, count + 1)]


def test_none_gives_up_at_once() -> None:
    assert waits(NoReconnect(), 2) == [None, None]


def test_fixed() -> None:
    assert waits(FixedReconnect(0.5), 3) == [0.5, 0.5, 0.5]
    assert waits(FixedReconnect(0, max_attempts=2), 4) == [0, 0, None, None]


def test_exponential_grows_to_its_maximum() -> None:
    assert waits(ExponentialReconnect(1, 5, factor=2, jitter=0), 5) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert waits(ExponentialReconnect(1, 5, factor=1, jitter=0, max_attempts=2), 3) == [1.0, 1.0, None]
    assert ExponentialReconnect(1, 60, jitter=0)(Outage(10**9, AWAY, 0.0)) == 60.0


def test_jitter_is_a_share_of_the_wait() -> None:
    strategy = ExponentialReconnect(8, 8, jitter=0.25)
    drawn = [strategy(Outage(1, AWAY, 0.0)) for _ in range(200)]
    assert all(wait is not None and 6 <= wait <= 8 for wait in drawn)
    assert len(set(drawn)) > 100


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FixedReconnect(-1), "a reconnection needs 0 <= delay < inf, not -1"),
        (lambda: FixedReconnect(float("nan")), "a reconnection needs 0 <= delay < inf, not nan"),
        (lambda: FixedReconnect(1, max_attempts=0), "max_attempts must be at least 1, not 0; NoReconnect() makes none"),
        (lambda: ExponentialReconnect(0), "a reconnection needs 0 < initial <= maximum < inf, not 0 and 5.0"),
        (lambda: ExponentialReconnect(6), "a reconnection needs 0 < initial <= maximum < inf, not 6 and 5.0"),
        (lambda: ExponentialReconnect(factor=0.5), "a reconnection needs a factor of at least 1, not 0.5"),
        (lambda: ExponentialReconnect(jitter=2), "jitter is a share of the wait from 0 to 1, not 2"),
        (
            lambda: ExponentialReconnect(max_attempts=0),
            "max_attempts must be at least 1, not 0; NoReconnect() makes none",
        ),
    ],
)
def test_numbers_that_make_no_strategy(make: Any, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.message == text


@task
async def nothing(ctx: TaskContext) -> None: ...


def a_worker(server: FakeServer, strategy: Any) -> Worker:
    return Worker(server.client(), tasks=[nothing], reconnect=strategy, grace=1.0)


async def test_a_worker_without_reconnection_ends_when_the_server_cannot_be_reached() -> None:
    server = FakeServer()
    server.refuse("RegisterWorker", AWAY)
    with anyio.fail_after(5), pytest.raises(ServerUnavailable) as caught:
        await a_worker(server, NoReconnect()).run()
    assert caught.value is AWAY
    assert len(server.seen("RegisterWorker")) == 1


async def test_a_worker_without_reconnection_ends_when_it_loses_the_server() -> None:
    server = FakeServer()
    worker = a_worker(server, NoReconnect())
    with anyio.fail_after(5), pytest.raises(ServerUnavailable) as caught:
        async with worker:
            await server.until(lambda: worker.statistics().open_polls)
            server.go_down()
            await anyio.sleep_forever()
    assert caught.value.message == server.unreachable
    assert worker.report is not None


async def test_attempts_are_limited() -> None:
    server = FakeServer()
    server.refuse("RegisterWorker", *[AWAY] * 9)
    with anyio.fail_after(5), pytest.raises(ServerUnavailable):
        await a_worker(server, FixedReconnect(0, max_attempts=3)).run()
    assert len(server.seen("RegisterWorker")) == 4


async def test_a_function_of_ones_own_is_told_of_the_outage() -> None:
    outages: list[Outage] = []

    def strategy(outage: Outage) -> float | None:
        outages.append(outage)
        return 0.01 if outage.attempt < 3 else None

    server = FakeServer()
    errors = [ServerUnavailable(str(number)) for number in range(3)]
    server.refuse("RegisterWorker", *errors)
    with anyio.fail_after(5), pytest.raises(ServerUnavailable, match="^2$"):
        await a_worker(server, strategy).run()
    assert [(outage.attempt, outage.error) for outage in outages] == [(1, errors[0]), (2, errors[1]), (3, errors[2])]
    assert outages[0].silence <= outages[1].silence <= outages[2].silence


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "1", True])
async def test_a_function_that_returns_no_wait_ends_the_worker(wait: Any) -> None:
    server = FakeServer()
    server.refuse("RegisterWorker", AWAY)

    def strategy(outage: Outage) -> Any:
        return wait

    with anyio.fail_after(5), pytest.raises(UsageError, match="return seconds to wait, or None to give up$"):
        await a_worker(server, strategy).run()


async def test_a_function_that_fails_ends_the_worker_with_its_error() -> None:
    def broken(outage: Outage) -> float | None:
        raise LookupError("mine")

    server = FakeServer()
    server.refuse("RegisterWorker", AWAY)
    with anyio.fail_after(5), pytest.raises(LookupError, match="^'mine'$|^mine$"):
        await a_worker(server, broken).run()


def test_what_cannot_be_called_is_no_strategy() -> None:
    with pytest.raises(ConfigurationError, match="^reconnect takes a strategy like ExponentialReconnect\\(\\), not 5$"):
        a_worker(FakeServer(), 5)
