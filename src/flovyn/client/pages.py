"""Long lists of a server, read page by page as they are gone through."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

__all__ = ["Fetch", "Pages"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_PAGE: Final = 100


class Fetch(Protocol[T_co]):
    """Reads a page."""

    def __call__(self, limit: int, offset: int, /) -> Awaitable[Sequence[T_co]]:
        """So many entries, behind so many others."""
        ...


class Pages(AsyncIterator[T], Generic[T]):
    """The entries of a list. Nothing is read before the first is asked for, and no further than one goes.

    A list that changes meanwhile is no snapshot: what is new may push others onto the next page, which are then given
    once only, and what leaves the list may take others with it.

    Args:
        fetch: Reads a page.
        key: What tells one entry from the others.
    """

    __slots__ = ("_fetch", "_given", "_key", "_last", "_offset", "_page")

    def __init__(self, fetch: Fetch[T], key: Callable[[T], Hashable]) -> None:
        self._fetch = fetch
        self._key = key
        self._given: set[Hashable] = set()
        self._page: deque[T] = deque()
        self._offset = 0
        self._last = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._page:
            if self._last:
                raise StopAsyncIteration
            await self._turn()
        return self._page.popleft()

    async def _turn(self) -> None:
        entries = await self._fetch(_PAGE, self._offset)
        self._offset += len(entries)
        self._last = len(entries) < _PAGE
        for entry in entries:
            key = self._key(entry)
            if key not in self._given:
                self._given.add(key)
                self._page.append(entry)
