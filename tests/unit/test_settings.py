"""What the environment may say."""

from datetime import timedelta

import pytest

from store.errors import InvalidSetting
from store.settings import Settings


def refusal(**environment: str) -> str:
    with pytest.raises(InvalidSetting) as refused:
        Settings.from_environment(environment)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", timedelta(days=7)),
        ("90s", timedelta(seconds=90)),
        ("15min", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
    ],
)
def test_what_was_published_is_kept_for_a_span(text: str, expected: timedelta) -> None:
    found = Settings.from_environment({"EVENT_STORE_OUTBOX_RETENTION": text})
    assert found.outbox_retention == expected


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "7 d", "7days", "999999d", "forever"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    told = refusal(EVENT_STORE_OUTBOX_RETENTION=text)
    assert told == f"EVENT_STORE_OUTBOX_RETENTION: {text!r} is no span such as 12h or 7d"


@pytest.mark.parametrize(
    "address", ["https://hooks.example.org/x?y=z", "http://u:p@[::1]:8080", None]
)
def test_a_webhook_is_an_address(address: str | None) -> None:
    found = Settings.from_environment({"EVENT_STORE_DEAD_LETTER_WEBHOOK": address or ""})
    assert found.dead_letter_webhook == address


@pytest.mark.parametrize(
    "address", ["hook", "ftp://x/", "file:///etc/passwd", "http://", "http://x:0/", "http://x:y/"]
)
def test_another_webhook_is_refused(address: str) -> None:
    told = refusal(EVENT_STORE_DEAD_LETTER_WEBHOOK=address)
    assert told.startswith(f"EVENT_STORE_DEAD_LETTER_WEBHOOK: {address!r} is no address such as")


def test_a_password_is_not_repeated() -> None:
    assert "secret" not in refusal(EVENT_STORE_DEAD_LETTER_WEBHOOK="ftp://ada:secret@x/")
