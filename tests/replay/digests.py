"""Prints what some runs asked for and observed, as one line: it must be the same in every process."""

from __future__ import annotations

import hashlib
import sys

from hypothesis import given, settings

from flovyn.replay import Submission
from replay.programs import Program, programs
from replay.worlds import Conditions, Lived, World, scripts


class Digested(World):
    """Everything that its activations asked for and observed goes into a digest."""

    def __init__(self, program: Program, script: bytes, digest: hashlib._Hash) -> None:
        super().__init__(program, script)
        self.digest = digest

    def activated(self, lived: Lived, conditions: Conditions, submission: Submission) -> None:
        self.digest.update(repr((submission, lived[0].trace)).encode())


def main(examples: int) -> None:
    """Run so many programs, the same ones each time."""
    digest = hashlib.sha256()

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None)
    @given(programs, scripts)
    def live(program: Program, script: bytes) -> None:
        digest.update(repr((program, script)).encode())
        Digested(program, script, digest).run()

    live()
    print(digest.hexdigest())


if __name__ == "__main__":
    main(int(sys.argv[1]))
