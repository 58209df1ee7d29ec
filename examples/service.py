"""A user service over the store, as small as it can be.

    export EVENT_STORE_URL=sqlite:///users.db
    hindsight migrate
    hindsight work --domain users:domain &
    uvicorn examples.service:app --workers 2

Who may call it is left out: the gateway before it authenticates, and says who calls in `X-Actor`.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from msgspec import to_builtins
from pydantic import BaseModel, SecretStr

import users
from store import (
    CONTENT_TYPE,
    Command,
    CommandRejected,
    Conflict,
    Context,
    Filter,
    Hindsight,
    Loaded,
)
from store.errors import (
    AggregateNotFound,
    AggregateTypeMismatch,
    ConcurrencyError,
    EventStoreError,
    InvalidEvent,
    InvalidQuestion,
    NotFound,
    ProjectionError,
    StoreUnavailable,
)
from users.commands import (
    ChangeEmail,
    CreateUser,
    LockAccount,
    RecordFailedLogin,
    RecordLogin,
    UnlockAccount,
)
from users.state import User

log = logging.getLogger("uvicorn.error")
"""Where uvicorn writes its own lines."""

PASSWORD_SCHEME = "scrypt-14-8-5"  # noqa: S105 (no password: the cost, 2**14 blocks and so on)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Hindsight]]:
    """One store for each worker, opened in it."""
    with Hindsight(domain=users.domain, on_conflict=log_conflict) as store:
        yield {"store": store}


def log_conflict(conflict: Conflict) -> None:
    """Tell whoever runs the service where requests meet."""
    log.info(
        "%s conflict: %s on %s, attempt %d",
        conflict.outcome,
        conflict.command,
        conflict.aggregate_id,
        conflict.attempt,
    )


app = FastAPI(title="Users", lifespan=lifespan)


async def opened(request: Request) -> Hindsight:
    """The worker's store."""
    store: Hindsight = request.state.store
    return store


async def caused(
    response: Response,
    x_actor: Annotated[str | None, Header()] = None,
    x_correlation_id: Annotated[str | None, Header()] = None,
) -> Context:
    """Who asks, and the id under which all that follows is found."""
    correlation_id = x_correlation_id or str(uuid4())
    context = Context(actor=x_actor, correlation_id=correlation_id)
    response.headers["X-Correlation-ID"] = correlation_id
    return context


Store = Annotated[Hindsight, Depends(opened)]
Cause = Annotated[Context, Depends(caused)]


class NewUser(BaseModel):
    """Somebody who signs up."""

    username: str
    email: str
    full_name: str
    password: SecretStr


class Email(BaseModel):
    """An address."""

    email: str


class Password(BaseModel):
    """What somebody types to log in."""

    password: SecretStr


class Reason(BaseModel):
    """Why something is done."""

    reason: str


@app.post("/users", status_code=201)
def create_user(new: NewUser, store: Store, cause: Cause, response: Response) -> dict[str, Any]:
    """Create a user."""
    user_id = f"user-{uuid4()}"
    response.headers["Location"] = f"/users/{user_id}"
    command = CreateUser(
        username=new.username,
        email=new.email,
        full_name=new.full_name,
        password_hash=hashed(new.password.get_secret_value()),
    )
    return executed(store, user_id, command, cause)


@app.put("/users/{user_id}/email")
def change_email(user_id: str, new: Email, store: Store, cause: Cause) -> dict[str, Any]:
    """Change the e-mail address."""
    return executed(store, user_id, ChangeEmail(email=new.email), cause)


@app.post("/users/{user_id}/lock")
def lock(user_id: str, why: Reason, store: Store, cause: Cause) -> dict[str, Any]:
    """Refuse logins."""
    return executed(store, user_id, LockAccount(reason=why.reason), cause)


@app.post("/users/{user_id}/unlock")
def unlock(user_id: str, why: Reason, store: Store, cause: Cause) -> dict[str, Any]:
    """Let the user log in again."""
    return executed(store, user_id, UnlockAccount(reason=why.reason), cause)


@app.post("/users/{user_id}/logins", status_code=204, response_model=None)
def log_in(
    user_id: str, typed: Password, request: Request, store: Store, cause: Cause
) -> Response | None:
    """Check the password; the account locks with the fifth wrong one in a row."""
    user = loaded(store, user_id).state
    right = matches(typed.password.get_secret_value(), user.password_hash)
    at = datetime.now(UTC)
    ip_address = request.client.host if request.client else "unknown"
    if right:
        store.execute(user_id, RecordLogin(at=at, ip_address=ip_address), context=cause)
        return None
    failed = RecordFailedLogin(at=at, ip_address=ip_address, reason="wrong password")
    store.execute(user_id, failed, context=cause)
    return problem(401, "the password is wrong")


@app.get("/users")
def list_users(
    store: Store,
    locked: bool | None = None,  # noqa: FBT001 (a query parameter)
    since: int | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Users from the read model, `limit` behind the page that `after` names.

    Who gives the position of a change as `since` sees what came of it.
    """
    if since is not None:
        store.wait_for("users", since, timeout=2)
    chosen = [] if locked is None else [Filter("account_locked", "=", locked)]
    page = store.read_model("users").query(*chosen, after=after, limit=limit)
    return {"users": page.rows, "next": page.next}


@app.get("/users/{user_id}")
def get_user(
    user_id: str, store: Store, version: int | None = None, as_of: datetime | None = None
) -> dict[str, Any]:
    """The user now, at a version, or as of a time."""
    found = loaded(store, user_id, version=version, as_of=as_of)
    return shown(user_id, found.version, found.state)


@app.get("/users/{user_id}/history")
def get_history(
    user_id: str,
    store: Store,
    after: int = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """What happened to the user, `limit` events after version `after`."""
    check_type(user_id, store.aggregate(user_id).aggregate_type)
    fields = ("version", "event_type", "occurred_at", "recorded_at", "actor", "correlation_id")
    events = islice(store.events(user_id, from_version=after + 1), limit)
    return [{field: getattr(event, field) for field in fields} for event in events]


@app.get("/metrics")
def metrics(store: Store) -> Response:
    """What Prometheus asks for; with several workers, set PROMETHEUS_MULTIPROC_DIR."""
    return Response(store.exposition(), media_type=CONTENT_TYPE)


def executed(store: Hindsight, user_id: str, command: Command, cause: Context) -> dict[str, Any]:
    """The user after the command, and the position of its last event, if there is one."""
    done = store.execute(user_id, command, context=cause)
    position = done.events[-1].position if done.events else None
    return shown(user_id, done.version, done.state) | {"position": position}


def loaded(store: Hindsight, user_id: str, **at: Any) -> Loaded[User]:
    """The user, where the id is one of a user."""
    found = store.load(user_id, **at)
    check_type(user_id, found.aggregate_type)
    return found


def check_type(user_id: str, aggregate_type: str) -> None:
    """An order is not found among users."""
    if aggregate_type != users.user.aggregate_type:
        raise AggregateNotFound(user_id)


def shown(user_id: str, version: int, user: User) -> dict[str, Any]:
    """What the world may see: not the hash."""
    state = to_builtins(user)
    del state["password_hash"]
    return {"id": user_id, "version": version, "state": state}


def hashed(password: str) -> str:
    """What is kept of a password. Slow on purpose: never in `decide`, which may run again."""
    salt = secrets.token_bytes(16)
    return "$".join([PASSWORD_SCHEME, salt.hex(), _scrypt(password, salt).hex()])


def matches(password: str, password_hash: str | None) -> bool:
    """Whether it is the password of that hash."""
    scheme, _, rest = (password_hash or "").partition("$")
    if scheme != PASSWORD_SCHEME:
        return False
    salt, _, key = rest.partition("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)).hex(), key)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=5)


def problem(status: int, detail: str, **headers: str) -> JSONResponse:
    """An answer by RFC 9457."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(
        content, status_code=status, media_type="application/problem+json", headers=headers
    )


def answer(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Makes an error of the store a problem with that status."""

    async def answered(_: Request, error: Exception) -> Response:
        return problem(status, str(error))

    return answered


async def busy(_: Request, error: Exception) -> Response:
    """Nothing was written, and it may work in a moment."""
    log.warning("%s: %s", type(error).__name__, error)
    return problem(503, "not now; try again", **{"Retry-After": "1"})


async def unreadable(_: Request, error: Exception) -> Response:
    """Where the request does not fit; FastAPI's own answer would quote it, password and all."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
    return problem(422, "; ".join(said))


REFUSALS: dict[type[EventStoreError], int] = {
    InvalidEvent: 400,
    InvalidQuestion: 400,
    NotFound: 404,
    AggregateTypeMismatch: 404,
    CommandRejected: 409,
}
for kind, code in REFUSALS.items():
    app.add_exception_handler(kind, answer(code))
app.add_exception_handler(ConcurrencyError, busy)
app.add_exception_handler(StoreUnavailable, busy)
app.add_exception_handler(ProjectionError, busy)
app.add_exception_handler(RequestValidationError, unreadable)
