"""Two streams of commands side by side."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Line", "compare"]

_CONTEXT: Final = 3
_MOST: Final = 400
"""Lines of either side that are compared; finding the best match takes time that grows with their product."""


class Line(NamedTuple):
    """One command.

    Attributes:
        key: What of it has to be the same on both sides.
        text: What is shown of it.
    """

    key: str
    text: str


def compare(history: Sequence[Line], code: Sequence[Line], *, names: tuple[str, str]) -> str:
    """A unified diff, in which what is equal is shown as history has it.

    Args:
        history: One side.
        code: The other.
        names: What the two are called.
    """
    hunks = list(_hunks(history, code))
    if not hunks:
        hunks = [_hunk(history, code, [("equal", 0, len(history), 0, len(code))])]
    return "\n".join([f"--- {names[0]}", f"+++ {names[1]}", *(line for hunk in hunks for line in hunk)]) + "\n"


def _hunks(history: Sequence[Line], code: Sequence[Line]) -> Iterator[list[str]]:
    same = next(
        (n for n, (mine, yours) in enumerate(zip(history, code, strict=False)) if mine.key != yours.key),
        min(len(history), len(code)),
    )
    # What begins alike is not compared again, and what is very long is cut: the first difference is what counts.
    first = max(0, same - _CONTEXT)
    before, after = history[first : first + _MOST], code[first : first + _MOST]
    matcher = SequenceMatcher(None, [line.key for line in before], [line.key for line in after], autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        yield _hunk(before, after, group, first=first)


def _hunk(
    history: Sequence[Line], code: Sequence[Line], group: Sequence[tuple[str, int, int, int, int]], *, first: int = 0
) -> list[str]:
    """One hunk, opened as unified diffs open them: the first line and the number of lines of each side."""
    (_, left, _, right, _), (_, _, left_end, _, right_end) = group[0], group[-1]
    lines = [f"@@ -{_range(left, left_end, first)} +{_range(right, right_end, first)} @@"]
    for tag, low, high, other, other_end in group:
        if tag == "equal":
            lines += [f" {line.text}" for line in history[low:high]]
        else:
            lines += [f"-{line.text}" for line in history[low:high]]
            lines += [f"+{line.text}" for line in code[other:other_end]]
    return lines


def _range(low: int, high: int, first: int) -> str:
    return f"{first + low + 1},{high - low}"
