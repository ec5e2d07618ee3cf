"""The caller's mistakes: nothing was sent, and the call has to be mended."""

from __future__ import annotations

from flovyn.errors.base import FlovynError

__all__ = [
    "CodecError",
    "ConfigurationError",
    "Deadlock",
    "DefinitionError",
    "MalformedHistory",
    "PayloadError",
    "PayloadTooLarge",
    "UsageError",
]


class UsageError(FlovynError):
    """The call itself was wrong; nothing was sent."""


class ConfigurationError(UsageError):
    """A URL, a token, an option or a combination of them cannot work."""


class DefinitionError(UsageError):
    """A `@workflow` or `@task` cannot be defined, registered or called that way."""


class PayloadError(UsageError):
    """A value cannot be written as, or read from, a payload.

    Args:
        message: What did not fit.
        path: Where in the value, as the codec names it (``$.items[2].price``), if known.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class CodecError(PayloadError):
    """A codec could not encode a payload, or what was encoded cannot be decoded here.

    Nothing is wrong with the workflow or the task whose payload it is: another worker, or this one with another
    configuration, may be able to read it.

    Args:
        message: What is missing or failed; never anything of the payload.
        codec: The name of the codec.
        key: The id of the key that it takes, for a codec that encrypts.
    """

    def __init__(self, message: str, *, codec: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.codec = codec
        self.key = key


class PayloadTooLarge(UsageError):
    """A message is over the size limit of this side.

    Args:
        message: Which message, how large, and which option raises the limit.
        size: Its size in bytes.
        limit: The limit in bytes.
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class MalformedHistory(UsageError):
    """What was to be replayed is no history that can be read.

    Args:
        message: What is wrong.
        source: The file it came from, or whatever else it is known by, if anything.
        place: Where in it, such as ``events[3].sequenceNumber``, if that is known.
    """

    def __init__(self, message: str, *, source: str | None = None, place: str | None = None) -> None:
        super().__init__(": ".join(part for part in (source, place, message) if part))
        self.source = source
        self.place = place


class Deadlock(UsageError):
    """Under virtual time, every task waits and nothing can wake one; the message shows where each of them stands."""
