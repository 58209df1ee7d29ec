"""Made-up users do what the commands would have let them do."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

from users.events import AccountLocked, AccountUnlocked, LoginFailed, LoginInfoUpdated, UserCreated
from users.history import history
from users.state import User, apply

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = [START + timedelta(minutes=number) for number in range(5_000)]


def test_there_is_an_event_at_each_moment_and_each_keeps_the_rules() -> None:
    user = User()
    kinds: Counter[str] = Counter()
    for moment, event in zip(MOMENTS, history(Random(1), MOMENTS), strict=True):
        kinds[type(event).__name__] += 1
        assert user.exists != isinstance(event, UserCreated)
        if isinstance(event, LoginInfoUpdated | LoginFailed):
            assert event.at == moment
            assert not user.account_locked
        if isinstance(event, AccountLocked | AccountUnlocked):
            assert user.account_locked == isinstance(event, AccountUnlocked)
        user = apply(user, event)
        assert user.failed_login_attempts <= 5
    assert len(kinds) == 8
    assert kinds.most_common(1)[0][0] == "LoginInfoUpdated"


def test_the_same_numbers_make_the_same_user() -> None:
    first, again, other = (list(history(Random(seed), MOMENTS[:50])) for seed in (1, 1, 2))
    assert first == again != other
