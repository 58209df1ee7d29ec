"""What the pages fetch from the server beside Streamlit: their scripts and their documents."""

from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dashboard.documents import (
    aggregate,
    diff,
    monitoring,
    operations,
    read_models,
    replay,
    search,
    store,
    swimlanes,
)
from dashboard.documents.operations import NotAnOperator
from dashboard.parameters import InvalidAddress
from dashboard.searching import InvalidSearch
from store.errors import (
    EventStoreError,
    ExpressionTooCostly,
    InvalidEvent,
    InvalidExpression,
    InvalidQuestion,
    NotFound,
    ProjectionNotBuilt,
    ProjectionOutdated,
    ProjectionUnknown,
    RecordRefused,
)

STATIC = Path(__file__).with_name("static")
BYTES = "application/octet-stream"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

_ASKED_WRONGLY = (
    InvalidAddress,
    InvalidSearch,
    InvalidEvent,
    InvalidExpression,
    InvalidQuestion,
    ExpressionTooCostly,
)

Document = Callable[[QueryParams], Any]

DOCUMENTS: dict[str, Document] = {
    "history": aggregate.history,
    "page": aggregate.page,
    "event": aggregate.event,
    "effect": aggregate.effect,
    "raw": aggregate.raw,
    "store": store.store,
    "head": store.head,
    "aggregates": store.aggregates,
    "related": aggregate.relatives,
    "activity": search.activity,
    "search": search.page,
    "later": search.newer,
    "swimlanes": swimlanes.swimlanes,
    "monitoring": monitoring.monitoring,
    "operations": operations.operations,
    "projections": read_models.projections,
    "skipped": read_models.skipped,
    "rows": read_models.rows,
    "row": read_models.row,
    "replay": replay.replay,
    "window": replay.window,
    "blame": replay.blamed,
    "series": replay.series,
    "places": replay.places,
    "answers": replay.answers,
    "failures": replay.failures,
    "forms": replay.stored_forms,
    "reached": replay.reached,
    "diff": diff.diff,
    "between": diff.between,
    "coverage": diff.coverage,
}


def routes() -> list[BaseRoute]:
    """`/assets/DIGEST/NAME` and `/documents/NAME`."""
    documents = [Route(f"/documents/{name}", _answering(made)) for name, made in DOCUMENTS.items()]
    return [
        Route("/assets/{digest}/{name}", asset),
        Route("/documents/line", _sending(aggregate.line)),
        Route("/documents/bytes", _sending(aggregate.stored_bytes)),
        Route("/documents/cell", _sending(read_models.cell)),
        Route("/documents/export", _sending(search.export)),
        Route("/documents/patch", _sending(diff.patch)),
        Route("/documents/states", _sending(diff.states)),
        Route("/documents/operate", _acting(operations.operate), methods=["POST"]),
        *documents,
    ]


@cache
def assets_digest() -> str:
    """Names the scripts and styles as they are, so that a browser may keep them for ever."""
    return sha256(b"".join(path.read_bytes() for path in _assets().values())).hexdigest()[:16]


@cache
def _assets() -> dict[str, Path]:
    return {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in MEDIA_TYPES}


def asset(request: Request) -> Response:
    """A script or a style sheet of the pages."""
    name, digest = request.path_params["name"], request.path_params["digest"]
    path = _assets().get(name)
    # What is kept for ever under a name must be what that name stands for.
    if path is None or digest != assets_digest():
        return Response("no such asset", status_code=404, media_type="text/plain")
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[path.suffix],
        headers={"cache-control": "public, max-age=31536000, immutable"},
    )


def _answering(made: Document) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        try:
            return _json(made(request.query_params), 200)
        except EventStoreError as error:
            return _refusal(error)

    return endpoint


def _acting(act: Callable[[bytes], Any]) -> Callable[[Request], Awaitable[Response]]:
    """Does what the body says, for our own pages only."""

    async def endpoint(request: Request) -> Response:
        # No other site's form can send JSON, and its script would have to ask first; the browser
        # says where it comes from, besides.
        if request.headers.get("content-type") != "application/json" or not _is_ours(request):
            return _json({"error": "not from this dashboard", "kind": "Foreign"}, 403)
        body = await request.body()
        try:
            return _json(await run_in_threadpool(act, body), 200)
        except EventStoreError as error:
            return _refusal(error)

    return endpoint


def _is_ours(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _sending(
    made: Callable[[QueryParams], bytes | Iterator[bytes]],
) -> Callable[[Request], Response]:
    """Bytes to be saved or copied, never shown: they are strangers'."""

    def endpoint(request: Request) -> Response:
        try:
            content = made(request.query_params)
        except EventStoreError as error:
            return _refusal(error)
        headers = {"content-disposition": "attachment", "cache-control": "no-store"}
        if isinstance(content, bytes):
            return Response(content, media_type=BYTES, headers=headers)
        return StreamingResponse(content, media_type=BYTES, headers=headers)

    return endpoint


def _refusal(error: EventStoreError) -> Response:
    message = " ".join(str(error).split())
    return _json({"error": message, "kind": type(error).__name__}, _status(error))


def _json(document: Any, status: int) -> Response:
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _status(error: EventStoreError) -> int:
    if isinstance(error, NotFound | ProjectionUnknown):
        return 404
    if isinstance(error, NotAnOperator):
        return 403
    if isinstance(error, RecordRefused | ProjectionNotBuilt | ProjectionOutdated):
        return 409
    return 400 if isinstance(error, _ASKED_WRONGLY) else 503
