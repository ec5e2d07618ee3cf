"""The command line in the process of the tests."""

from __future__ import annotations

import sys

import pytest

from flovyn.cli import main

__all__ = ["Flovyn"]


class Flovyn:
    """The command line in this process, which is quicker than one of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        for name in ("FLOVYN_WORKER_TOKEN", "FLOVYN_API_KEY", "FLOVYN_ORG_ID", "CONFIG_FILE"):
            self._monkeypatch.delenv(name, raising=False)
        self._monkeypatch.setattr(sys, "argv", ["flovyn", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err
