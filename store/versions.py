"""What a writer expects the aggregate's version to be."""

from typing import Final

from msgspec import Struct

from store.errors import InvalidEvent


class ExpectedVersion(Struct, frozen=True):
    """An expectation: `exact(n)`, `none()` or `any_()`. `version` is None where any will do."""

    version: int | None


ANY: Final = ExpectedVersion(None)
NONE: Final = ExpectedVersion(0)


def exact(version: int) -> ExpectedVersion:
    """The aggregate is at `version`, its last event's number; 0 is the same as `none()`."""
    if type(version) is not int or not 0 <= version < 2**62:
        raise InvalidEvent(
            f"expected version: {version!r} is not a whole number from 0 below 2**62"
        )
    return ExpectedVersion(version)


def none() -> ExpectedVersion:
    """The aggregate does not exist yet."""
    return NONE


def any_() -> ExpectedVersion:
    """Whatever the version is: append after it, without a conflict."""
    return ANY
