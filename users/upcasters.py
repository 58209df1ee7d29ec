"""What events of users were before, and the steps to what they are now.

Stored events stay as they were written. A step is never changed once events went through it in
production, for then the same history would give another state.
"""

from typing import Any

from store import Upcaster


def phone_unverified(created: dict[str, Any]) -> dict[str, Any]:
    """Before phones were asked for, none was verified."""
    return created | {"phone_verified": False}


def user_agent_unknown(login: dict[str, Any]) -> dict[str, Any]:
    """At first only the address of a login was kept."""
    return login | {"user_agent": None}


def client_grouped(login: dict[str, Any]) -> dict[str, Any]:
    """What is known of where a login came from stands together."""
    client = {"ip_address": login["ip_address"], "user_agent": login["user_agent"]}
    return {"at": login["at"], "client": client}


UPCASTERS = [
    Upcaster("UserCreated", 1, 2, phone_unverified),
    Upcaster("LoginInfoUpdated", 1, 2, user_agent_unknown),
    Upcaster("LoginInfoUpdated", 2, 3, client_grouped),
]
