"""`python -m flovyn` is the `flovyn` command."""

from __future__ import annotations

from flovyn.cli import main

if __name__ == "__main__":
    main()
