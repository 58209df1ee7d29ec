"""The ASGI application: the pages, the health routes, and what guards them."""

import gc
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard import resources
from dashboard.routes import assets_digest, routes
from store.application import Hindsight
from store.domain import Domains
from store.errors import EventStoreError
from store.metrics import CONTENT_TYPE, of_process
from store.sources import EventSource
from store.work import working

MAIN_SCRIPT = Path(__file__).with_name("main.py")
PAGES = ["timeline", "replay", "diff", "read-models", "monitoring", "operations"]
STREAMLIT_PAGE = Path(st.__file__).with_name("static") / "index.html"

# Streamlit compiles v2 components from blob: URLs and styles its elements inline.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "style-src 'self' 'unsafe-inline'",
        "script-src 'self' blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    ]
)
# URLs name aggregates: they are no other site's business.
SECURITY_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]

# What a first page view would import; imported before gc.freeze, they are never traversed again.
WARM_IMPORTS = [
    "dashboard.component",
    "streamlit.components.v2",
]


def _workers(operator: Hindsight | None) -> AbstractContextManager[None]:
    if operator is None:
        return nullcontext()
    return working(operator, relay=operator.own_relay(), projectors=operator.own_projectors())


class SecurityHeaders:
    """Adds the security headers to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def healthz(_request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


def readyz(_request: Request) -> Response:
    """The source answers."""
    try:
        resources.is_empty()
    except EventStoreError as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, status_code=503)
    return JSONResponse({"status": "ok"})


def metrics(_request: Request) -> Response:
    """How the store stands, and this process, as Prometheus reads it."""
    store = resources.store()
    content = of_process().exposition() if store is None else store.exposition()
    return Response(content, media_type=CONTENT_TYPE)


def page(name: str) -> Callable[[Request], Response]:
    """Streamlit's document, which loads the page `name` beside Streamlit and not after it."""

    def endpoint(_request: Request) -> Response:
        document = STREAMLIT_PAGE.read_text()
        script = f'<script type="module" src="./assets/{assets_digest()}/{name}-early.js"></script>'
        return HTMLResponse(
            document.replace("<head>", f"<head>{script}", 1), headers={"cache-control": "no-cache"}
        )

    return endpoint


def create_app(
    source: EventSource,
    *,
    allowed_hosts: Sequence[str],
    domains: Domains | None = None,
    file: str | None = None,
    store: Hindsight | None = None,
    operator: Hindsight | None = None,
) -> st.App:
    """The dashboard over `source`, answering only requests that name one of `allowed_hosts`.

    States are folded by `domains`, by default by no domain's code. For `file`, `store` and
    `operator` see `resources.shared`; where there is an operator, its workers run, too.
    """

    @asynccontextmanager
    async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
        for module in WARM_IMPORTS:
            importlib.import_module(module)
        # Streamlit collects all garbage after every script run: 85 ms over the imported modules'
        # objects, 2 ms over what is left after this.
        gc.collect()
        gc.freeze()
        shared = resources.shared(
            source, domains or Domains(), file=file, store=store, operator=operator
        )
        with shared, _workers(operator):
            yield {}

    return st.App(
        MAIN_SCRIPT,
        lifespan=lifespan,
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *[Route(f"/{name}", page(name)) for name in PAGES],
            *routes(),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts)),
            Middleware(SecurityHeaders),
        ],
    )
