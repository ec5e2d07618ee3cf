"""A real Flovyn server for one machine: the same protocol, on SQLite, inside an `async with` block or as a command."""

from __future__ import annotations

from flovyn.server.auth import Access, Key, Org
from flovyn.server.service import Server, Statistics, serve
from flovyn.server.store import Durability

__all__ = ["Access", "Durability", "Key", "Org", "Server", "Statistics", "serve"]
