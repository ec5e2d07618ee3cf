"""`flovyn server` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["ServerProcess", "environment", "server_process"]


@dataclass(frozen=True)
class ServerProcess:
    """What the process said about itself."""

    process: subprocess.Popen[str]
    url: str
    org_id: str
    org_slug: str
    token: str
    api_key: str
    http_url: str

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; the process's exit code."""
        self.process.send_signal(number)
        return self.process.wait(10)


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOVYN_")}
    return {**kept, **extra}


@contextmanager
def server_process(*options: str) -> Generator[ServerProcess]:
    """A development server with these options, killed at the end if it still runs."""
    command = [sys.executable, "-m", "flovyn", "server", "--dev", "--grpc-port", "0", "--http-port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        said = dict(line.split(" ", 1) for line in (process.stdout.readline().rstrip("\n") for _ in range(5)) if line)
        if len(said) != 5:
            process.kill()
            raise AssertionError(f"the server said {said} and then: {process.communicate()[1]}")
        org_id, org_slug = said["org"].split(" ")
        yield ServerProcess(
            process,
            f"http://{said['grpc']}",
            org_id,
            org_slug,
            said["token"],
            said["api-key"],
            f"http://{said['http']}",
        )
    finally:
        process.kill()
        process.communicate()
