"""Made-up users, quickly and by the million: what may have happened to one, moment by moment."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from random import Random

from users.commands import FAILED_LOGINS_UNTIL_LOCKED
from users.events import (
    AccountLocked,
    AccountUnlocked,
    Client,
    EmailChanged,
    LoginFailed,
    LoginInfoUpdated,
    PasswordChanged,
    ProfileUpdated,
    UserCreated,
    UserEvent,
)

# A line for each would be pages.
FIRST_NAMES = (  # noqa: SIM905
    "Ada Amir Anouk Arash Ayşe Bo Bruna Carlos Chidi Chloé Dana Darius Diego Elif Emre Esra Fatima"
    " Finn Freya Gabriel Gita Greta Hana Hugo Ibrahim Inès Ivan Jamal Jana João Jun Kaito Karin"
    " Kofi Lars Leila Linh Lucía Maja Malik Marta Mei Milan Mónica Nadia Niko Noor Olga Omar Paulo"
    " Petra Quinn Rania Ravi Rosa Samir Sara Sven Tariq Théo Uma Valentina Wei Yara Yusuf Zoë"
).split()
LAST_NAMES = (  # noqa: SIM905
    "Abara Adeyemi Almeida Andersson Bauer Berg Bianchi Castillo Chen Costa Dahl Diallo Dubois"
    " Eriksen Eto Evans Fischer Fontaine García Gupta Haddad Hansen Horváth Ito Ivanova Jansen"
    " Kaya Khan Kim Kowalski Laurent Lee Lindqvist López Mbeki Meyer Moreau Müller Nakamura Nguyen"
    " Novák Okafor Okonkwo Olsen Öztürk Papadopoulos Patel Pereira Popescu Ramírez Rossi Sato"
    " Schneider Sharma Silva Singh Smith Suzuki Svoboda Tanaka Thompson Tran Ueda Vega Virtanen"
    " Weber Yamada Yildiz Zhang Ziegler"
).split()
HOSTS = ("mail", "post", "inbox", "office", "campus", "studio", "letters", "correo")
SYSTEMS = (
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "Linux; Android 14; Pixel 8",
    "Linux; Android 13; SM-A546B",
    "iPhone; CPU iPhone OS 17_5 like Mac OS X",
)
LOCKED_BY_HAND = ("chargeback", "spam reported by others", "asked for by the owner")
UNLOCKED = ("identity checked", "resolved", "mistake of ours", None)


def history(random: Random, moments: Iterable[datetime]) -> Iterator[UserEvent]:
    """One user's events, one at each moment; they keep the rules of `users.commands`."""
    person = _Person(random)
    coming = iter(moments)
    for _ in islice(coming, 1):
        yield person.created()
    failures, locked = 0, False
    for at in coming:
        if locked:
            yield AccountUnlocked(reason=random.choice(UNLOCKED))
            failures, locked = 0, False
        elif failures == FAILED_LOGINS_UNTIL_LOCKED:
            yield AccountLocked(reason=f"{failures} failed logins in a row")
            locked = True
        elif random.random() < (0.5 if failures else 0.1):
            yield person.failed_login(at)
            failures += 1
        elif (chance := random.random()) < 0.8:
            yield person.login(at)
            failures = 0
        elif chance < 0.99:
            yield person.change()
        else:
            yield AccountLocked(reason=random.choice(LOCKED_BY_HAND))
            locked = True


class _Person:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._first, self._last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        self._login = f"{self._first}.{self._last}{random.randrange(10_000)}".lower()
        self._network = f"{random.randint(11, 222)}.{random.randrange(256)}"
        self._clients = [self._client() for _ in range(random.choice((1, 1, 2, 3)))]

    def created(self) -> UserCreated:
        return UserCreated(
            username=self._login,
            email=self._email(),
            full_name=f"{self._first} {self._last}",
            password_hash=self._hash(),
            phone_verified=self._random.random() < 0.3,
        )

    def login(self, at: datetime) -> LoginInfoUpdated:
        clients = self._clients
        if self._random.random() < 0.1:  # away from home, with a phone
            return LoginInfoUpdated(at=at, client=self._client())
        return LoginInfoUpdated(at=at, client=clients[int(self._random.random() * len(clients))])

    def failed_login(self, at: datetime) -> LoginFailed:
        return LoginFailed(at=at, ip_address=self._address(), reason="wrong password")

    def change(self) -> UserEvent:
        chance = self._random.random()
        if chance < 0.5:
            first = self._random.choice((self._first, self._first[0] + ".", "Dr. " + self._first))
            return ProfileUpdated(full_name=f"{first} {self._random.choice(LAST_NAMES)}")
        if chance < 0.75:
            return EmailChanged(email=self._email())
        return PasswordChanged(password_hash=self._hash())

    def _client(self) -> Client:
        random = self._random
        browser = f"Chrome/{random.randint(96, 131)}.0.{random.randrange(7_000)}"
        engine = f"({random.choice(SYSTEMS)}) AppleWebKit/537.36 (KHTML, like Gecko)"
        agent = f"Mozilla/5.0 {engine} {browser}.{random.randrange(200)} Safari/537.36"
        return Client(ip_address=self._address(), user_agent=agent)

    def _address(self) -> str:
        random = self._random
        return f"{self._network}.{int(random.random() * 256)}.{int(random.random() * 256)}"

    def _email(self) -> str:
        return f"{self._login}@{self._random.choice(HOSTS)}.example"

    def _hash(self) -> str:
        salt, hashed = self._random.getrandbits(96), self._random.getrandbits(256)
        return f"scrypt$16384$8$1${salt:024x}${hashed:064x}"
