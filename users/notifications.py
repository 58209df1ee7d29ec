"""What users are told by mail: a welcome, and a notice when their account is locked.

USERS_MAIL says where mail goes: `smtp://HOST:PORT`, or the path of a Maildir, by default
`data/mail`. A mail that has to be sent again has the same Message-ID.
"""

import os
import smtplib
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

from store import Delivery, Handler, SinkUnavailable
from users.events import AccountLocked, UserCreated

SENDER = "accounts@users.example"
DEFAULT_MAIL = "data/mail"
PATIENCE = 10.0
"""Seconds that a mail server may take for each answer."""


def welcome(delivery: Delivery) -> None:
    """Greet who has signed up."""
    created: UserCreated = delivery.data
    text = f"Hello {created.full_name},\n\nyour account {created.username!r} is ready.\n"
    send(mail(delivery, to=created.email, subject="Welcome", text=text))


def notify_of_lock(delivery: Delivery) -> None:
    """Tell the owner that nobody can log in any more, and why."""
    locked: AccountLocked = delivery.data
    user = delivery.state()
    text = (
        f"Hello {user.full_name},\n\nyour account {user.username!r} was locked: {locked.reason}\n\n"
        "If that was not you who tried to log in, change your password once it is unlocked.\n"
    )
    send(mail(delivery, to=user.email, subject="Your account is locked", text=text))


def mail(delivery: Delivery, *, to: str, subject: str, text: str) -> EmailMessage:
    """The mail about an event, the same each time."""
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = format_datetime(delivery.event.occurred_at)
    message["Message-ID"] = f"<{delivery.event.event_id}@users.example>"
    message.set_content(text)
    return message


def send(message: EmailMessage) -> None:
    """Hand the mail to the server or Maildir that USERS_MAIL names.

    Raises:
        SinkUnavailable: nobody is there to take it.
        OSError, smtplib.SMTPException: it was not taken.
    """
    target = os.environ.get("USERS_MAIL") or DEFAULT_MAIL
    url = urlsplit(target)
    if url.scheme != "smtp":
        _keep(message, Path(target))
        return
    try:
        server = smtplib.SMTP(url.hostname or "localhost", url.port or 25, timeout=PATIENCE)
    except OSError as error:
        raise SinkUnavailable(f"{target} does not answer: {error}") from error
    with server:
        server.send_message(message)


def _keep(message: EmailMessage, maildir: Path) -> None:
    """Write it as https://cr.yp.to/proto/maildir.html says; once more changes nothing."""
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(parents=True, exist_ok=True)
    name = message["Message-ID"].strip("<>")
    written = maildir / "tmp" / f"{name}.{os.getpid()}"
    written.write_bytes(bytes(message))
    written.rename(maildir / "new" / name)


HANDLERS = (
    Handler("welcome", [UserCreated], welcome),
    Handler("notify_of_lock", [AccountLocked], notify_of_lock),
)
