"""Histories as they come: as bytes, of which only what is new is ever decoded."""

from __future__ import annotations

from typing import Final

from flovyn.wire import methods
from flovyn.wire.messages.flovyn import v1 as pb
from flovyn.wire.transport import Method

__all__ = ["RAW_EVENTS"]

RAW_EVENTS: Final = Method(methods.GET_EVENTS.path, pb.GetEventsRequest, bytes, methods.GET_EVENTS.shape)
"""GetEvents, unread: a history only grows, so what was read of it before is skipped by prefix.

Prefixes are compared as they came, whatever codecs have made of the payloads: a server keeps what it was sent.
"""
