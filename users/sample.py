"""Half a year of users, for demos: they sign up, log in, forget passwords, and are attacked."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count, islice, takewhile
from random import Random

from store import Activity, Command, Context
from users.commands import (
    ChangeEmail,
    ChangePassword,
    CreateUser,
    LockAccount,
    RecordFailedLogin,
    RecordLogin,
    UnlockAccount,
    UpdateProfile,
)

SPAN = timedelta(days=180)
FIRST_NAMES = ["Ada", "Bo", "Chidi", "Dana", "Emre", "Freya", "Gita", "Hugo", "Inès", "Jun"]
LAST_NAMES = ["Abara", "Berg", "Costa", "Dahl", "Eto", "Fischer", "García", "Haddad", "Ito"]


def sample(*, seed: int, events: int, until: datetime) -> Iterator[Activity]:
    """Commands in the order of their moments, the last by `until`, for about so many events."""
    story: list[Activity] = []
    numbers = count(1)
    while len(story) < events:
        number = next(numbers)
        life = _Life(Random(f"{seed}/{number}"), number, until)  # noqa: S311 (a story)
        story += life.story()
    story.sort(key=lambda each: each.at)
    return islice(story, events)


class _Life:
    """One user's half-year; every step moves the clock forward."""

    def __init__(self, random: Random, number: int, until: datetime) -> None:
        self._random = random
        self._id = f"user-{number}"
        self._name = f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"
        self._login = f"{self._name.split()[0].lower()}{number}"
        self._ip = f"198.51.100.{random.randint(1, 254)}"
        self._until = until
        self._at = until - SPAN * random.uniform(0.02, 1)

    def story(self) -> list[Activity]:
        """What happened until now."""
        return list(takewhile(lambda each: each.at <= self._until, self._steps()))

    def _steps(self) -> Iterator[Activity]:
        yield self._by_user(
            CreateUser(
                username=self._login,
                email=f"{self._login}@mail.example",
                full_name=self._name,
                password_hash=self._hash(),
            )
        )
        while self._random.random() < 0.88:
            yield from self._visit()
            chance = self._random.random()
            if chance < 0.04:
                yield from self._attack()
            elif chance < 0.09:
                yield from self._impatience()
            elif chance < 0.10:
                yield from self._lock()

    def _visit(self) -> Iterator[Activity]:
        self._pass(days=self._random.expovariate(1 / 6))
        while self._random.random() < 0.15:
            yield self._by_user(self._failed_login("wrong password"))
            self._pass(seconds=self._random.uniform(4, 40))
        yield self._by_user(RecordLogin(at=self._at, ip_address=self._ip))
        self._pass(seconds=self._random.uniform(20, 900))
        change = self._random.random()
        if change < 0.08:
            yield self._by_user(UpdateProfile(full_name=self._other_name()))
        elif change < 0.13:
            yield self._by_user(ChangeEmail(email=self._other_email()))
        elif change < 0.18:
            yield self._by_user(ChangePassword(password_hash=self._hash()))

    def _attack(self) -> Iterator[Activity]:
        """Somebody guesses passwords, from many addresses at once, until the account locks."""
        self._pass(days=self._random.uniform(0.1, 3))
        self._at = self._at.replace(microsecond=0)
        for _ in range(self._random.randint(5, 8)):
            self._pass(seconds=0.01)
            guess = RecordFailedLogin(
                at=self._at,
                ip_address=f"203.0.113.{self._random.randint(1, 254)}",
                reason="wrong password",
            )
            yield self._activity(guess, actor="login")
        self._pass(seconds=self._random.uniform(600, 40_000))
        yield self._activity(UnlockAccount(reason="identity checked"), actor="support")
        self._pass(seconds=self._random.uniform(60, 600))
        yield self._by_user(ChangePassword(password_hash=self._hash()))

    def _impatience(self) -> Iterator[Activity]:
        """The form did not answer, so it is sent again, and again."""
        self._pass(days=self._random.uniform(0.1, 2))
        self._at = self._at.replace(microsecond=0)
        for _ in range(self._random.randint(2, 3)):
            self._pass(seconds=0.01)
            yield self._by_user(UpdateProfile(full_name=self._other_name()))
            yield self._by_user(ChangeEmail(email=self._other_email()))

    def _lock(self) -> Iterator[Activity]:
        self._pass(days=self._random.uniform(0.5, 5))
        yield self._activity(LockAccount(reason="chargeback"), actor="fraud-desk")
        self._pass(days=self._random.uniform(0.2, 2))
        yield self._by_user(self._failed_login("account locked"))
        self._pass(seconds=self._random.uniform(3_000, 90_000))
        yield self._activity(UnlockAccount(reason="resolved"), actor="support")

    def _failed_login(self, reason: str) -> Command:
        return RecordFailedLogin(at=self._at, ip_address=self._ip, reason=reason)

    def _by_user(self, command: Command) -> Activity:
        return self._activity(command, actor=self._login)

    def _activity(self, command: Command, *, actor: str) -> Activity:
        request = f"req-{self._random.getrandbits(40):010x}"
        context = Context(actor=actor, correlation_id=request)
        return Activity(at=self._at, aggregate_id=self._id, command=command, context=context)

    def _pass(self, *, days: float = 0, seconds: float = 0) -> None:
        self._at += timedelta(days=days, seconds=seconds)

    def _other_name(self) -> str:
        return f"{self._name.split()[0]} {self._random.choice(LAST_NAMES)}"

    def _other_email(self) -> str:
        return f"{self._login}+{self._random.randint(1, 99)}@mail.example"

    def _hash(self) -> str:
        return f"scrypt${self._random.getrandbits(128):032x}"
