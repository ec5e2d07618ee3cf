"""Tripwires: what trips, who is meant, and who is left alone."""

from __future__ import annotations

import _thread
import importlib
import linecache
import logging
import os
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flovyn.errors import ConfigurationError, DeterminismError, DeterminismWarning
from flovyn.nursery import Tripwires, _audit, arm_tripwires
from flovyn.nursery.kernel import Kernel
from nursery.driving import Driver

# ruff: noqa: PTH123, PTH208, LOG001, ASYNC210, ASYNC220, ASYNC221, ASYNC230, ASYNC251

OFF = Tripwires(
    files="off", network="off", processes="off", threads="off", sleeping="off", clock="off", randomness="off"
)


def step(function: Callable[[], Any], tripwires: Tripwires | None) -> Any:
    """Call a function in a step."""

    async def main() -> Any:
        await checkpoint()
        return function()

    return anyio.run(main, backend="flovyn", backend_options={"tripwires": tripwires})


def start_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def open_here() -> None:
    with open(__file__):
        pass


# (switch, what the message calls it, the call)
CALLS: list[tuple[str, str, Callable[[], Any]]] = [
    ("files", "open", lambda: open(__file__).close()),
    ("files", "pathlib.Path.read_text", lambda: Path(__file__).read_text()),
    ("files", "os.listdir", lambda: os.listdir(".")),
    ("files", "tempfile", lambda: tempfile.TemporaryFile().close()),
    ("files", "sqlite3.connect", lambda: sqlite3.connect(":memory:").close()),
    ("network", "socket.socket", lambda: socket.socket().close()),
    ("network", "socket.getaddrinfo", lambda: socket.getaddrinfo("127.0.0.1", 80)),
    ("processes", "subprocess.run", lambda: subprocess.run([sys.executable, "--version"], capture_output=True)),
    ("processes", "os.kill", lambda: os.kill(os.getpid(), 0)),
    ("threads", "threading.Thread.start", start_thread),
    ("threads", "_thread.start_new_thread", lambda: _thread.start_new_thread(int, ())),
    ("sleeping", "time.sleep", lambda: time.sleep(0)),
    ("clock", "time.time", lambda: time.time()),
    ("clock", "time.monotonic", lambda: time.monotonic()),
    ("clock", "time.perf_counter_ns", lambda: time.perf_counter_ns()),
    ("clock", "time.localtime", lambda: time.localtime()),
    ("clock", "time.gmtime", lambda: time.gmtime(None)),
    ("clock", "time.ctime", lambda: time.ctime()),
    ("clock", "time.asctime", lambda: time.asctime()),
    ("clock", "time.strftime", lambda: time.strftime("%Y")),
    ("randomness", "random.random", lambda: random.random()),
    ("randomness", "random.Random.randint", lambda: random.randint(1, 6)),
    ("randomness", "random.Random.shuffle", lambda: random.shuffle([1, 2])),
    ("randomness", "random.getrandbits", lambda: random.getrandbits(8)),
    ("randomness", "secrets.token_hex", lambda: secrets.token_hex()),
    ("randomness", "random.SystemRandom.random", lambda: random.SystemRandom().random()),
    ("randomness", "os.urandom", lambda: os.urandom(8)),
    ("randomness", "uuid.uuid1", lambda: uuid.uuid1()),
    ("randomness", "uuid.uuid4", lambda: uuid.uuid4()),
]
EVERY_CALL = pytest.mark.parametrize(("switch", "name", "call"), CALLS, ids=[name for _, name, _ in CALLS])


@EVERY_CALL
def test_error_raises_at_the_users_own_line(switch: str, name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(DeterminismError) as caught:
        step(call, Tripwires(**{switch: "error"}))  # type: ignore[arg-type]
    assert f"workflow code called {name}" in caught.value.message
    assert "ctx." in caught.value.message or "anyio.sleep" in caught.value.message
    frames = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if frame.filename == __file__]
    assert frames[-1].lineno is not None
    assert call.__code__.co_firstlineno <= frames[-1].lineno <= call.__code__.co_firstlineno + 3


@EVERY_CALL
def test_warn_warns_there_and_goes_on(switch: str, name: str, call: Callable[[], Any]) -> None:
    others = dict.fromkeys(("files", "network", "processes", "threads", "sleeping", "clock", "randomness"), "off")
    with pytest.warns(DeterminismWarning) as caught:
        step(call, Tripwires(**{**others, switch: "warn"}))  # type: ignore[arg-type]
    assert f"workflow code called {name}" in str(caught[0].message)
    first = call.__code__.co_firstlineno
    assert (caught[0].filename, first <= caught[0].lineno <= first + 3) == (__file__, True)


@EVERY_CALL
def test_off_is_off(switch: str, name: str, call: Callable[[], Any]) -> None:
    step(call, Tripwires(**{switch: "off", "threads": "off"}))  # type: ignore[arg-type]


def test_the_value_of_a_call_that_is_only_warned_about_is_the_real_one() -> None:
    with pytest.warns(DeterminismWarning):
        read = step(lambda: time.time(), Tripwires())
    assert abs(read - time.time()) < 60


def test_a_moment_that_is_given_is_no_look_at_the_clock() -> None:
    def written() -> list[str]:
        moment = time.gmtime(0)
        return [time.strftime("%Y", moment), time.asctime(moment), time.strftime("%Y", time.localtime(40 * 86_400))]

    assert step(written, Tripwires(clock="error")) == ["1970", "Thu Jan  1 00:00:00 1970", "1970"]


def test_the_defaults() -> None:
    wires = Tripwires()
    assert (wires.files, wires.network, wires.processes, wires.threads, wires.sleeping) == ("error",) * 5
    assert (wires.clock, wires.randomness, wires.allow, wires.code) == ("warn", "warn", (), ())


def test_without_tripwires_nothing_trips() -> None:
    for _, _, call in CALLS:
        step(call, None)


@pytest.mark.parametrize("wrong", [{"files": "on"}, {"clock": True}, {"allow": "somewhere"}, {"code": ["package"]}])
def test_a_switch_that_does_not_exist(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"Tripwires\({next(iter(wrong))}=...\)"):
        Tripwires(**wrong)


def test_an_error_can_be_caught_and_the_workflow_goes_on() -> None:
    def read() -> str:
        try:
            open_here()
        except DeterminismError:
            return "caught"
        return "read"

    assert step(read, Tripwires()) == "caught"


def test_a_file_is_not_made_when_it_trips(tmp_path: Path) -> None:
    with pytest.raises(DeterminismError):
        step(lambda: (tmp_path / "new").write_text("x"), Tripwires())
    assert list(tmp_path.iterdir()) == []


# --- who is meant ---------------------------------------------------------------------------


def test_modules_that_are_allowed() -> None:
    step(open_here, Tripwires(allow=(__name__,)))
    step(open_here, Tripwires(allow=("elsewhere", __name__.partition(".")[0])))
    with pytest.raises(DeterminismError):
        step(open_here, Tripwires(allow=(__name__[:-1],)))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed package whose functions read files, clocks, and call back."""
    directory = tmp_path / "lib" / "site-packages"
    directory.mkdir(parents=True)
    (directory / "third_party.py").write_text(
        "import time\n"
        "def text():\n    with open(__file__) as file:\n        return file.read()\n"
        "def read():\n    return text(), time.time()\n"
        "def call(function):\n    return function()\n"
        "exec('def made():\\n    with open(__file__) as file:\\n        return file.read()')\n"
    )
    monkeypatch.setattr(sys, "path", [str(directory), *sys.path])
    yield importlib.import_module("third_party")
    del sys.modules["third_party"]


def test_installed_packages_are_left_alone(installed: Any) -> None:
    step(installed.read, Tripwires(clock="error"))
    step(lambda: installed.read(), Tripwires(clock="error"))
    step(lambda: installed.made(), Tripwires())


def test_installed_packages_that_are_workflow_code_are_not(installed: Any) -> None:
    for call in (installed.read, installed.made):
        with pytest.raises(DeterminismError, match=r"called open\(\.\.\.\)"):
            step(call, Tripwires(code=("third_party",)))


def test_workflow_code_that_a_package_calls_is_meant(installed: Any) -> None:
    with pytest.raises(DeterminismError):
        step(lambda: installed.call(open_here), Tripwires())


def test_generated_code_is_meant_and_the_line_is_that_of_its_caller() -> None:
    @dataclass
    class Order:
        id: uuid.UUID = field(default_factory=uuid.uuid4)

    def order() -> Order:
        return Order()

    with pytest.warns(DeterminismWarning, match=r"uuid\.uuid4\(\.\.\.\)") as caught:
        step(order, Tripwires())
    line = order.__code__.co_firstlineno + 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_imports_in_a_step_are_not_punished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time\nwith open(__file__) as file:\n    TEXT = file.read()\nNOW = time.time()\n"
    (tmp_path / "imported_late.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    assert step(lambda: importlib.import_module("imported_late"), Tripwires(clock="error")).NOW > 0
    del sys.modules["imported_late"]

    def statement() -> Any:
        import imported_late  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

        return imported_late

    assert step(statement, Tripwires(clock="error")).TEXT.startswith("import time")
    del sys.modules["imported_late"]


def test_logging_in_a_step_is_not_punished(tmp_path: Path) -> None:
    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            (tmp_path / "own").write_text(f"{record.getMessage()} {time.time() > 0}")

    logger = logging.Logger("workflow")
    late = logging.FileHandler(tmp_path / "log", delay=True)
    late.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(late)
    logger.addHandler(Own())
    linecache.clearcache()

    def log() -> None:
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("it failed")

    step(log, Tripwires(clock="error"))
    late.close()
    assert "raise ValueError" in (tmp_path / "log").read_text()
    assert (tmp_path / "own").read_text() == "it failed True"


def test_what_is_for_people_who_watch_is_not_punished() -> None:
    class Temporary:
        def __init__(self) -> None:
            weakref.finalize(self, os.listdir, ".")

    shown: list[str] = []

    def show(message: Warning | str, *_: Any) -> None:
        open_here()
        shown.append(str(message))

    def watch() -> None:
        linecache.clearcache()
        try:
            raise ValueError("no")
        except ValueError:
            assert "raise ValueError" in traceback.format_exc()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show  # type: ignore[assignment]
            warnings.warn("look", stacklevel=1)
        assert shown == ["look"]
        Temporary()
        zoneinfo.ZoneInfo.clear_cache()
        zoneinfo.ZoneInfo("Europe/Berlin")

    step(watch, Tripwires(clock="error"))


def test_another_thread_is_never_affected() -> None:
    """It does everything while a step is under way in this one."""
    begin, done = threading.Event(), threading.Event()
    results: list[object] = []

    def other() -> None:
        begin.wait()
        try:
            for _, _, call in CALLS:
                call()
            results.append("all done")
        except BaseException as error:
            results.append(error)
        done.set()

    def wait() -> None:
        begin.set()
        done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    step(wait, Tripwires(clock="error", randomness="error"))
    thread.join()
    assert results == ["all done"]


def test_two_threads_step_at_the_same_time() -> None:
    """The first to leave must not take the guards of the second away."""
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    results: list[str] = []

    def first() -> None:
        first_in.set()
        second_in.wait()

    def second() -> None:
        first_in.wait()
        second_in.set()
        first_out.wait()
        try:
            time.time()
        except DeterminismError:
            results.append("guarded")

    wires = Tripwires(clock="error")
    real = time.time
    thread = threading.Thread(target=step, args=(second, wires))
    thread.start()
    step(first, wires)
    first_out.set()
    thread.join()
    assert results == ["guarded"]
    assert time.time is real


# --- when -----------------------------------------------------------------------------------

PLACES = [
    (module, name)
    for module, names in [
        (time, "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns sleep"),
        (random, "random getrandbits randint _urandom"),
        (os, "urandom"),
        (uuid, "uuid1 uuid4"),
        (threading, "_start_new_thread _start_joinable_thread"),
    ]
    for name in names.split()
]


def places() -> list[Any]:
    return [getattr(module, name, None) for module, name in PLACES] + [dict(vars(random._inst))]


def fail() -> None:
    raise ValueError("no")


def test_everything_is_as_it_was_after_a_step() -> None:
    before = places()
    inside = step(places, Tripwires())
    assert inside[0] is not before[0]
    assert places() == before
    with pytest.raises(ValueError, match="no"):
        step(fail, Tripwires())
    assert places() == before
    assert step(places, OFF) == before


def test_a_kernel_inside_a_step_of_another_takes_nothing_away() -> None:
    before = places()

    def outer() -> bool:
        inside = Driver()
        inside.kernel.tripwires = Tripwires()
        inside.run(checkpoint())
        return time.time is not before[0]

    assert step(outer, Tripwires()) is True
    assert places() == before


def test_what_somebody_else_put_there_during_a_step_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen() -> float:
        return 42.0

    real = time.time
    step(lambda: setattr(time, "time", frozen), Tripwires())
    assert time.time is frozen
    # It is this one that is watched from now on.
    with pytest.warns(DeterminismWarning, match=r"time\.time"):
        assert step(lambda: time.time(), Tripwires()) == 42
    assert time.time is frozen
    time.time = real


def test_a_stand_in_that_somebody_kept_is_no_trap() -> None:
    real = time.time
    kept = step(lambda: time.time, Tripwires())
    time.time = kept
    try:
        assert abs(time.time() - real()) < 60
        with pytest.warns(DeterminismWarning):
            assert abs(step(lambda: time.time(), Tripwires()) - real()) < 60
        assert time.time is real
    finally:
        time.time = real


def test_between_the_steps_of_an_activation_the_owner_does_as_it_likes() -> None:
    driver = Driver()
    driver.kernel.tripwires = Tripwires(clock="error")
    arm_tripwires()
    with driver.kernel.activation():
        driver.run(checkpoint())
        open_here()
        assert time.time() > 0
    assert driver.ended[0].error is None


def test_a_predicate_is_watched_as_a_step_is() -> None:
    async def main() -> None:
        await driver.kernel.wait_until(lambda: len(asked) > 0 and time.time() > 0)

    asked: list[int] = []
    driver = Driver()
    driver.kernel.tripwires = Tripwires(clock="error")
    driver.run(main())
    asked.append(1)
    driver.kernel.run()
    assert isinstance(driver.ended[0].error, DeterminismError)


def test_plain_code_that_runs_on_eviction_reaches_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            (tmp_path / "evicted").write_text("x")

    arm_tripwires()
    driver = Driver()
    driver.kernel.tripwires = Tripwires()
    driver.run(main())
    driver.kernel.close()
    assert list(tmp_path.iterdir()) == []


def test_the_hook_is_installed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[Any] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(_audit, "_armed", False)
    arm_tripwires()
    arm_tripwires()
    assert len(hooks) == 1


@pytest.mark.anyio
async def test_the_host_finds_its_clock_between_activations() -> None:
    with anyio.fail_after(5):
        before = places()
        driver = Driver()
        driver.kernel.tripwires = Tripwires()
        for delay in range(1, 4):
            driver.task(anyio.sleep(delay))
            driver.kernel.run()
            assert places() == before
            await anyio.sleep(0.001)
        while driver.armed:
            driver.fire()
            driver.kernel.run()
            await checkpoint()
        assert len(driver.ended) == 3
        assert places() == before


def test_a_kernel_has_no_tripwires_unless_it_is_given_some() -> None:
    assert Kernel(Driver()).tripwires is None
