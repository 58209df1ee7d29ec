"""What the environment says, read once."""

import os
from collections.abc import Mapping

from msgspec import Struct

DEFAULT_URL = "sqlite:///data/events.db"


class Settings(Struct, frozen=True, kw_only=True):
    """Where the store is. `read_url` is where pages read: by default the store itself."""

    url: str = DEFAULT_URL
    read_url: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """`EVENT_STORE_URL` and `EVENT_STORE_READ_URL`; an empty variable is an absent one."""
        return cls(
            url=environment.get("EVENT_STORE_URL") or DEFAULT_URL,
            read_url=environment.get("EVENT_STORE_READ_URL") or None,
        )
