"""The mails of the users domain: from commands, through the outbox, to where mail goes."""

import mailbox
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from store import Hindsight, NewEvent, any_
from store.cli import hindsight
from store.outbox import Relay
from tests.servers import RedisServer
from tests.waiting import until
from users.commands import CreateUser, LockAccount

ADA = CreateUser(
    username="ada",
    email="ada@a.example",
    full_name="Ada Łukasik",
    password_hash="scrypt:1",  # noqa: S106
)


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail as RFC 5321 says, as much of it as smtplib says."""

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.taken: list[Message] = []
        self.refusing = False


class Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self.say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.taken.append(message_from_bytes(text))
                self.say("250 taken")
            elif line == b"QUIT":
                self.say("221 bye")
                return
            elif line.startswith(b"RCPT") and self.server.refusing:
                self.say("451 the disk is full")
            else:
                self.say("250 ok")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("USERS_MAIL", f"smtp://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()


@pytest.fixture
def users(store_url: str) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain="users:domain") as store:
        yield store


def relay(store: Hindsight) -> Relay:
    publisher = store.publisher()
    assert publisher is not None
    return store.relay(publisher)


def test_who_signs_up_is_welcomed_and_who_is_locked_out_is_told(
    users: Hindsight, mail_server: MailServer
) -> None:
    users.execute("ada", ADA)
    users.execute("ada", LockAccount(reason="five failed logins"))
    assert relay(users).once().published == 2
    welcome, locked = mail_server.taken
    assert (welcome["To"], welcome["Subject"]) == ("ada@a.example", "Welcome")
    assert (locked["To"], locked["Subject"]) == ("ada@a.example", "Your account is locked")
    text = locked.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert "Ada Łukasik" in text.decode()
    assert "five failed logins" in text.decode()
    ids = [str(event.event_id) for event in users.events("ada")]
    assert [mail["Message-ID"] for mail in mail_server.taken] == [
        f"<{each}@users.example>" for each in ids
    ]
    assert "scrypt" not in str(welcome)


def test_a_mail_that_is_refused_is_sent_later_and_others_are_not_held_up(
    users: Hindsight, mail_server: MailServer
) -> None:
    mail_server.refusing = True
    users.execute("ada", ADA)
    working = relay(users)
    assert working.once().retried == 1
    [(error,)] = users.database.rows("SELECT last_error FROM outbox", {})
    assert "the disk is full" in error
    assert "from handler 'welcome'" in error
    mail_server.refusing = False
    with users.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE outbox SET next_attempt_at = NULL")
    assert working.once().published == 1
    assert [mail["To"] for mail in mail_server.taken] == ["ada@a.example"]


def test_without_a_server_mail_goes_to_a_maildir_and_once_more_changes_nothing(
    users: Hindsight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERS_MAIL", str(tmp_path / "mail"))
    users.execute("ada", ADA)
    for _ in range(2):
        assert relay(users).once().published == 1
        with users.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE outbox SET status = 'pending', open = true")
    [mail] = mailbox.Maildir(tmp_path / "mail")
    assert (mail["To"], mail["Subject"]) == ("ada@a.example", "Welcome")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "returned"),
    [
        (["-m", "store", "work", "--domain", "users:domain", "--url"], 0),
        (
            ["-m", "dashboard", "--operate", "--domain", "users:domain", "--port", "0", "--source"],
            -signal.SIGTERM,
        ),
    ],
    ids=["work", "dashboard"],
)
def test_a_worker_publishes_until_it_is_told_to_stop(
    users: Hindsight, store_url: str, mail_server: MailServer, command: list[str], returned: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, *command, store_url],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert "publishing to handlers welcome, notify_of_lock" in greeting or "shows" in greeting
        users.execute("ada", ADA)
        until(lambda: mail_server.taken)
        users.execute("ada", LockAccount(reason="asked for"))
        until(lambda: len(mail_server.taken) == 2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (returned, "")


@pytest.mark.slow
def test_a_worker_publishes_to_a_topic_without_any_domain(
    store_url: str, redis_server: RedisServer
) -> None:
    topic = f"topic-{uuid4()}"
    exported = {
        "EVENT_STORE_REDIS_URL": redis_server.url,
        "EVENT_STORE_TOPIC": topic,
        "EVENT_STORE_SHARDS": "1",
    }
    with Hindsight(store_url) as store, redis_server.client() as client:
        store.append("thing", "a", [NewEvent("Made", {"n": 1})], expected=any_())
        done = subprocess.run(
            [sys.executable, "-m", "store", "work", "--once", "--url", store_url],
            cwd=Path(__file__).parents[2],
            env=os.environ | exported,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        [(_, fields)] = client.xrange(f"{topic}.0")
        assert fields[b"subject"] == b"a"
        [(store_id,)] = store.database.rows("SELECT CAST(store_id AS text) FROM store_info", {})
        assert fields[b"source"].decode() == f"urn:uuid:{store_id}"
        assert store.outbox.standing().published == 1


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EVENT_STORE_SHARDS", "0", "EVENT_STORE_SHARDS: '0' is no number of streams"),
        ("EVENT_STORE_SHARDS", "many", "EVENT_STORE_SHARDS: 'many' is no number of streams"),
        ("EVENT_STORE_DEAD_LETTERS", "drop", "EVENT_STORE_DEAD_LETTERS: 'drop' is neither hold"),
        ("EVENT_STORE_RELAY", "yes", "EVENT_STORE_RELAY: 'yes' is neither on nor off"),
        ("EVENT_STORE_TOPIC", "t", "EVENT_STORE_TOPIC needs EVENT_STORE_REDIS_URL"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(hindsight, ["work", "--once", "--url", sqlite_url])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {told}")
    assert len(result.stderr.splitlines()) == 1


def test_while_the_mail_server_is_away_nothing_is_given_up(
    users: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Session) as server:
        port = server.server_address[1]
    monkeypatch.setenv("USERS_MAIL", f"smtp://127.0.0.1:{port}")
    users.execute("ada", ADA)
    assert relay(users).once().retried == 1
    [(attempts, error)] = users.database.rows("SELECT attempts, last_error FROM outbox", {})
    assert attempts == 0
    assert f"smtp://127.0.0.1:{port} does not answer" in error
