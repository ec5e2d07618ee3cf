"""How a client is to connect, a workflow to be started, and a task to be submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypedDict, cast

from flovyn.definitions.limits import LARGEST_PRIORITY, LONGEST_KEY, LONGEST_TTL, SHORTEST_TTL
from flovyn.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    import ssl
    import uuid
    from collections.abc import Iterable

    from flovyn.client.oauth2 import OAuth2
    from flovyn.definitions import RetryPolicy
    from flovyn.serde.chain import PayloadCodec
    from flovyn.wire.options import ChannelOptions

__all__ = [
    "ConnectOptions",
    "StartOptions",
    "SubmitOptions",
    "as_timedelta",
    "check_metadata",
    "check_queue",
]

_LONGEST_VERSION: Final = 255


class ConnectOptions(TypedDict, total=False):
    """The options of `connect` beside the URL; it says what they mean."""

    http_url: str | None
    org_id: str | uuid.UUID | None
    org_slug: str | None
    token: str | None
    api_key: str | None
    oauth2: OAuth2 | None
    queue: str | None
    codecs: Iterable[PayloadCodec]
    retry: RetryPolicy | None
    options: ChannelOptions | None
    ssl_context: ssl.SSLContext | None
    http_ssl_context: ssl.SSLContext | None
    profile: str | None
    config_file: str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """How a workflow is to be started.

    Args:
        queue: The queue whose workers run it.
        priority: How much older than it is it counts when workers choose what comes first; negative for younger.
        version: The version of the code; that of the definition if left out.
        metadata: What is to be remembered with it.
        idempotency_key: Starting twice with one key starts once. At most 255 characters.
        idempotency_key_ttl: How long the key lives, between a second and 30 days; the server's default is a day.

    Raises:
        ConfigurationError: One of them cannot work; the message names it.
    """

    queue: str = "default"
    priority: timedelta | None = None
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    idempotency_key: str | None = None
    idempotency_key_ttl: timedelta | None = None

    def __post_init__(self) -> None:
        check_queue(self.queue)
        check_metadata(self.metadata)
        if self.version is not None and not 0 < len(self.version) <= _LONGEST_VERSION:
            raise ConfigurationError(f"a version has 1 to {_LONGEST_VERSION} characters, not {len(self.version)}")
        if self.priority is not None and abs(self.priority) > LARGEST_PRIORITY:
            raise ConfigurationError(f"priority must be within {LARGEST_PRIORITY} of 0, not {self.priority}")
        key, ttl = self.idempotency_key, self.idempotency_key_ttl
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise ConfigurationError(f"an idempotency key has 1 to {LONGEST_KEY} characters, not {len(key)}")
        if ttl is None:
            return
        if key is None:
            raise ConfigurationError("idempotency_key_ttl means nothing without an idempotency_key")
        if not SHORTEST_TTL <= ttl <= LONGEST_TTL:
            raise ConfigurationError(f"idempotency_key_ttl must be from {SHORTEST_TTL} to {LONGEST_TTL}, not {ttl}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How a task is to be submitted; what else there is to say, the task's own options say.

    Args:
        queue: The queue whose workers run it.
        scheduled_at: Nobody gets it before this moment.
        metadata: What is to be remembered with it.

    Raises:
        ConfigurationError: One of them cannot work; the message names it.
    """

    queue: str = "default"
    scheduled_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        check_queue(self.queue)
        check_metadata(self.metadata)
        if self.scheduled_at is not None and self.scheduled_at.utcoffset() is None:
            raise ConfigurationError(
                f"scheduled_at={self.scheduled_at!r} has no time zone: nobody can tell when that is. "
                "Use an aware datetime, such as datetime.now(UTC) + delay"
            )


def as_timedelta(option: str, value: timedelta | float | None) -> timedelta | None:
    """A time in seconds, or as a timedelta; None stays None.

    Raises:
        ConfigurationError: It is no time.
    """
    if value is None or isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(f"{option} must be a number of seconds or a timedelta, not {value!r}") from None


def check_queue(queue: str) -> None:
    """Refuse an empty name.

    Raises:
        ConfigurationError: It is empty.
    """
    if not queue:
        raise ConfigurationError("queue must not be empty; leave it out for the default")


def check_metadata(metadata: object) -> None:
    """Refuse what is no mapping of texts to texts.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata is a mapping of texts to texts, not {metadata!r}")
    for key, value in cast("Mapping[object, object]", metadata).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ConfigurationError(f"metadata is a mapping of texts to texts; {key!r}: {value!r} is not")
