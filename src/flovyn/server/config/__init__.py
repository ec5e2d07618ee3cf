"""What a server is told by a file and by the environment, in the platform's own terms."""

from __future__ import annotations

from flovyn.server.config.settings import Settings, load

__all__ = ["Settings", "load"]
