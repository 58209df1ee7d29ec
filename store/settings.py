"""What the environment says, read once."""

import os
from collections.abc import Mapping

from msgspec import Struct

DEFAULT_URL = "sqlite:///data/events.db"


class Settings(Struct, frozen=True, kw_only=True):
    """Where the store is. `read_url` is where pages read: by default the store itself.

    `domain` names the import paths of domains, separated by commas; there is no default.
    """

    url: str = DEFAULT_URL
    read_url: str | None = None
    domain: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """`EVENT_STORE_URL` and so on; an empty variable is an absent one."""
        return cls(
            url=environment.get("EVENT_STORE_URL") or DEFAULT_URL,
            read_url=environment.get("EVENT_STORE_READ_URL") or None,
            domain=environment.get("EVENT_STORE_DOMAIN") or None,
        )
