"""Error texts: readable, bounded, and whole when they come back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flovyn.serde.envelope import ErrorInfo, format_error, parse_error

infos: st.SearchStrategy[ErrorInfo] = st.recursive(
    st.builds(ErrorInfo, st.text(), st.none() | st.text(), st.booleans(), st.none() | st.text(), st.none() | st.text()),
    lambda inner: st.builds(
        ErrorInfo,
        st.text(),
        st.none() | st.text(),
        cause=st.none() | inner,
        members=st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=4,
)


@given(infos)
def test_what_is_written_comes_back(info: ErrorInfo) -> None:
    assert parse_error(format_error(info)) == info


@given(st.text())
def test_a_text_of_another_sdk_is_a_bare_message(text: str) -> None:
    assert parse_error(text) == ErrorInfo(message=text)


@pytest.mark.parametrize(
    "text",
    ["broken\n[flovyn:error {]", "broken\n[flovyn:error ]", "broken\n[flovyn:error [1]]", "broken\n[flovyn:error 7]"],
)
def test_an_envelope_that_was_cut_or_edited_leaves_what_is_readable(text: str) -> None:
    assert parse_error(text).message.startswith("broken")
    assert parse_error(text).type is None


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_an_exception_keeps_its_type_its_cause_and_where_it_was_raised() -> None:
    info = parse_error(format_error(raised(ValueError("outer"), KeyError("inner")), retryable=False, reason="why"))
    assert (info.type, info.message, info.retryable, info.reason) == ("ValueError", "outer", False, "why")
    assert info.cause is not None
    assert (info.cause.type, info.cause.message, info.cause.traceback) == ("KeyError", "'inner'", None)
    assert info.traceback is not None
    assert "raise error from cause" in info.traceback


def test_a_group_of_one_prints_flat_and_a_larger_one_keeps_its_tree() -> None:
    one = ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("only")])])
    assert format_error(one).splitlines()[0] == "ValueError: only"
    info = parse_error(format_error(ExceptionGroup("two", [ValueError("a"), one])))
    assert info.type == "ExceptionGroup"
    assert [(member.type, member.message) for member in info.members] == [("ValueError", "a"), ("ValueError", "only")]


def test_the_readable_line_comes_first() -> None:
    assert format_error(ValueError("no such card")).splitlines()[0] == "ValueError: no such card"
    assert format_error(ValueError()).splitlines()[0] == "ValueError"


def test_what_cannot_be_written_as_utf8_does_not_make_the_report_fail() -> None:
    assert parse_error(format_error(ValueError("\ud800"))).message == "\\ud800"


def deep(levels: int) -> Exception:
    error: Exception = ValueError("x" * 100_000)
    for _ in range(levels):
        error = raised(RuntimeError("y" * 100_000), error)
    return error


def tree(levels: int) -> Exception:
    if not levels:
        return ValueError("z" * 10_000)
    return ExceptionGroup("g" * 10_000, [tree(levels - 1) for _ in range(8)])


@pytest.mark.parametrize(
    "error",
    [
        deep(50),
        ExceptionGroup("wide", [ValueError("z" * 10_000) for _ in range(500)]),
        tree(4),
        ExceptionGroup("of deep ones", [deep(10) for _ in range(20)]),
        raised(ValueError("outer"), tree(4)),
    ],
    ids=["deep", "wide", "tree", "wide and deep", "cause"],
)
def test_however_large_an_error_is_its_text_is_bounded(error: Any) -> None:
    assert len(format_error(error, reason="r" * 100_000)) < 48 * 1024


def test_what_is_small_is_kept_whole() -> None:
    info = parse_error(format_error(ExceptionGroup("g", [deep_of("a"), deep_of("b")])))
    assert [(member.message, member.cause and member.cause.message) for member in info.members] == [
        ("a", "cause of a"),
        ("b", "cause of b"),
    ]


def deep_of(text: str) -> Exception:
    return raised(ValueError(text), LookupError(f"cause of {text}"))


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_whose_text_fails_is_told_by_its_type() -> None:
    told = parse_error(format_error(Mute()))
    assert told.type == "Mute"
    assert "its __str__ fails" in told.message
