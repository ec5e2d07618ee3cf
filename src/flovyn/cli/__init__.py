"""The `flovyn` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with 0, or with 2 and one readable line for a wrong use."""
    try:
        from flovyn.cli.root import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("flovyn"):
            raise
        sys.stderr.write(f"flovyn: the command line needs the package {error.name!r}: pip install 'flovyn[cli]'\n")
        raise SystemExit(2) from None
    run()
