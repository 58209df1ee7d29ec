"""Serving the dashboard: one process, one port."""

import ipaddress
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from starlette.types import ASGIApp

from dashboard.app import create_app
from store.application import Hindsight, opened
from store.domain import Domains
from store.errors import EventStoreError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8501


class CannotServe(EventStoreError):
    """The dashboard cannot listen where it was told to; the message says why and what to do."""


def serve(
    *,
    source: str,
    domains: Domains | None = None,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    expose: bool = False,
    operate: bool = False,
    open_browser: bool = False,
) -> None:
    """Show the store, event file or table `source`, folded by `domains`, until told to stop.

    With `operate` the store is opened to be written to, too: by workers in this process, and by who
    operates it. `port` 0 takes any free one. There is no login yet, so only a loopback `host` is
    served unless `expose` is set, and nobody else may operate.

    Raises:
        CannotServe: the address is not loopback, or not free, or nobody may operate there.
        EventStoreError: the source cannot be opened.
    """
    if not (expose or is_loopback(host)):
        raise CannotServe(
            f"{host} is reachable from other machines and the dashboard has no login yet; "
            f"use 127.0.0.1, or --expose to let everybody read it"
        )
    if expose and operate:
        raise CannotServe("--expose with --operate would let everybody operate; there is no login")
    with (
        opened(source, domain=domains) as found,
        _operator(source, domains, operate=operate) as operator,
        closing(listen(host, port)) as listener,
    ):
        events, store = found.source, found.store
        if store is not None:
            _ = store.history  # a wrong setting is told before anything is shown
        url = _url(host, listener.getsockname()[1])
        hosts = ["*"] if expose else _names(host)
        file = None if "://" in source else source
        app = create_app(
            events,
            allowed_hosts=hosts,
            domains=domains,
            file=file,
            store=store,
            operator=operator,
        )
        print(f"Hindsight shows {events.info.name} on {url} (Ctrl-C stops it)", flush=True)  # noqa: T201 - the command's answer
        if open_browser:
            # The socket listens already: the browser waits until the application answers.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        _run(app, listener)


@contextmanager
def _operator(source: str, domains: Domains | None, *, operate: bool) -> Iterator[Hindsight | None]:
    if not operate:
        yield None
        return
    if "://" not in source:
        raise CannotServe(f"{source}: an event file cannot be operated on; leave --operate away")
    with Hindsight(source, domain=domains) as operator:
        yield operator


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> list[str]:
    return [*{"127.0.0.1", "localhost", "[::1]", _bracketed(host)}]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    return f"http://{_bracketed(shown)}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`, any free one if it is 0.

    Raises:
        CannotServe: there is no such address, or it is not free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotServe(
            f"cannot listen on {_bracketed(host)}:{port}: {reason}; choose another --port"
        ) from error
    # asyncio sets this only where a socket says it is of TCP, which create_server's do not. Without
    # it the body of an answer waits up to 40 ms until the browser has acknowledged the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _run(app: ASGIApp, listener: socket.socket) -> None:
    # Streamlit's own configuration decides what is logged.
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])
