"""What a failed call of a session means for the worker: by its status code, never by its text."""

from __future__ import annotations

from flovyn.errors import (
    FailedPrecondition,
    InvalidArgument,
    PayloadTooLarge,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
    UsageError,
)

__all__ = ["ends_worker", "refuses_worker"]

# A call that cannot be made, or that makes no sense to this server: it will be the same next time.
_SENSELESS = (InvalidArgument, PermissionDenied, Unimplemented, UsageError)


def ends_worker(error: Exception) -> bool:
    """Whether what a poll or a heartbeat failed with ends the worker; anything else ends only its session.

    UNAUTHENTICATED, NOT_FOUND and FAILED_PRECONDITION do not: the registration that begins the next session finds out
    whether the token is good and the worker known. Nor does one piece of work that is too large to be received.
    """
    return isinstance(error, _SENSELESS) and not isinstance(error, PayloadTooLarge)


def refuses_worker(error: Exception) -> bool:
    """Whether what a registration failed with ends the worker; anything else is tried again."""
    return isinstance(error, (*_SENSELESS, FailedPrecondition, Unauthenticated))
