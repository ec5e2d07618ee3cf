"""How a refusal of the engine, or an accident, is said over HTTP."""

from __future__ import annotations

import logging
from typing import Final

from flovyn.errors import (
    AlreadyExists,
    FailedPrecondition,
    FlovynError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServerUnavailable,
    Unauthenticated,
)

__all__ = ["HEADERS", "MEANINGS", "Refused", "refusal"]

logger: logging.Logger = logging.getLogger(__name__)

_STATUS: Final[tuple[tuple[type[FlovynError], int], ...]] = (
    (InvalidArgument, 400),
    (Unauthenticated, 401),
    (PermissionDenied, 403),
    (NotFound, 404),
    (AlreadyExists, 409),
    (FailedPrecondition, 409),
    (ServerUnavailable, 503),
)

MEANINGS: Final[dict[int, str]] = {
    400: "Something in the request makes no sense; the text names it.",
    401: "There is no key, or none that this server knows.",
    403: "The key is good, but not for this.",
    404: "There is no such thing in the organisation.",
    405: "The address has no such method.",
    408: "The request did not arrive in time.",
    409: "It is not in a state that allows this, or the key stands for something else.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    503: "The server cannot write at the moment, or is about to end; nothing has happened.",
}
"""Each status of a refusal, and what it means."""

HEADERS: Final[dict[int, dict[str, str]]] = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
"""What goes with a status."""


class Refused(Exception):
    """A refusal that only HTTP knows.

    Args:
        status: The status.
        text: What was wrong.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def refusal(error: Exception) -> tuple[int, str]:
    """The status and text for an exception; what was not meant for the client goes to the log."""
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, FlovynError):
        for kind, status in _STATUS:
            if isinstance(error, kind):
                return status, error.message
    logger.error("a request could not be answered", exc_info=error)
    return 500, "Internal server error"
