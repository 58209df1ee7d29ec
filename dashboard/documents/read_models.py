"""Documents of the Read models page: how projections stand, their rows, a row beside the replay."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace
from starlette.datastructures import QueryParams

from dashboard import resources
from dashboard.moments import to_microseconds
from dashboard.parameters import SHOWN, InvalidAddress, required
from store.analysis.document import document, is_same
from store.errors import NotFound
from store.projection import Key, Row
from store.projections import Checkpoint, Failure, Lag, Page, Projections, ReadModel
from store.projections.standing import ProjectionStanding, State
from store.projections.values import Kind, kind_of, parsed, spelled
from store.records import Event, Watermark

PAGE = 100
LONGEST_CELL = 200
"""Characters of a value in the table."""
LONGEST_VALUE = 2_000
"""Characters of a value beside the replay."""


class NoReadModels(NotFound):
    """The source has none; the message says what to do."""


class NoRow(NotFound):
    """There is no row with that key."""


class Cut(msgspec.Struct, frozen=True):
    """The beginning of a text, and how many characters there are."""

    text: str
    length: int


Cell: TypeAlias = str | Cut | None
"""A value as it is spelled; None is NULL."""


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a projection waits at or left out: why, and the whole error; times in µs."""

    position: int
    aggregate_id: str
    version: int
    event_type: str
    handler: str | None
    why: str
    error: str
    failed_at: int


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A table that is being made; `goal` is None where that is not known yet; times in µs."""

    position: int
    goal: int | None
    moved_at: int
    moved_by: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a projection stands.

    `version` is that of this code, `built` that of its table. Times are in µs since 1970.
    """

    name: str
    table: str
    by_aggregate: bool
    state: State
    version: int
    built: int | None
    code_changed: bool
    position: int | None
    moved_at: int | None
    moved_by: str | None
    lag: Lag
    failure: Missed | None
    skipped: int
    checked_at: int | None
    drift: int | None
    building: Made | None
    comparing: Made | None


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far followers may read, and who holds them there since when, in µs since 1970."""

    position: int
    is_held: bool
    pid: int | None
    since: int | None


class Standings(msgspec.Struct, frozen=True, kw_only=True):
    """All projections of a store, in the order in which they are declared."""

    now: int
    name: str
    watermark: Mark
    projections: Sequence[Standing]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """The first events that a projection left out."""

    events: Sequence[Missed]
    more: bool


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a read model."""

    name: str
    kind: Kind
    nullable: bool
    is_key: bool


class Line(msgspec.Struct, frozen=True):
    """A row: its key as the address has it, and its values in the order of the columns."""

    key: str
    cells: Sequence[Cell]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows, and where those after and before it begin."""

    columns: Sequence[Column]
    rows: Sequence[Line]
    next: str | None
    previous: str | None
    shown: int = PAGE


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A column, a field of the state, or both where they have the same name."""

    name: str
    kind: Kind
    row: Cell
    state: Cell
    in_row: bool
    in_state: bool
    differs: bool


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The last event of an aggregate that a projection has come by."""

    version: int
    position: int
    event_type: str
    occurred_at: datetime


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A row beside the state that a replay leads to, both as of the projection's `position`.

    `last` is None where no event is behind the row; `newest` is the version that there is by now.
    `skipped` are versions that the projection left out, `failure` says why the replay ends early.
    """

    key: str
    exists: bool
    position: int
    fields: Sequence[Field]
    differing: int = 0
    last: Last | None = None
    newest: int | None = None
    generic: bool = False
    failure: str | None = None
    skipped: Sequence[int] = ()


def projections(params: Mapping[str, str]) -> Standings:
    """How the projections of the store that is shown stand.

    Raises:
        NoReadModels: the source is no store, or no domain declares a projection.
    """
    del params  # the address chooses among them
    found = _projections()
    source = resources.source()
    # In this order: a watermark is never older than what is said to be behind it.
    standings = found.standing()
    watermark = source.watermark()
    return Standings(
        now=to_microseconds(datetime.now(UTC)),
        name=source.info.name,
        watermark=_mark(watermark),
        projections=[_standing(each, found) for each in standings],
    )


def skipped(params: Mapping[str, str]) -> Skipped:
    """The events that `projection` left out.

    Raises:
        ProjectionUnknown: there is no such projection.
    """
    found = _projections().failures(required(params, "projection"), limit=PAGE + 1)
    left_out = [_missed(each) for each in found if each.skipped]
    return Skipped(events=left_out[:PAGE], more=len(left_out) > PAGE)


def rows(params: QueryParams) -> Rows:
    """The rows of `projection` that every `where` holds for, by `sort` and `order`.

    `after` and `before` are where another page ended.

    Raises:
        InvalidAddress, InvalidQuestion: what is asked for cannot be.
        ProjectionUnknown, ProjectionNotBuilt, ProjectionOutdated: there is no such table.
    """
    model = _model(params)
    columns = [
        Column(
            name=str(each.name),
            kind=kind_of(each),
            nullable=bool(each.nullable),
            is_key=each.name in model.projection.key_columns,
        )
        for each in model.table.columns
    ]
    page = _page(model, params)
    return Rows(
        columns=columns,
        rows=[_line(model, row) for row in page.rows],
        next=page.next,
        previous=page.previous,
    )


def row(params: Mapping[str, str]) -> Beside:
    """The row of `projection` with the key `row`, beside the replay of its aggregate.

    Raises:
        InvalidAddress, InvalidQuestion: what is asked for cannot be.
        ProjectionUnknown, ProjectionNotBuilt, ProjectionOutdated: there is no such table.
    """
    model, text = _model(params), required(params, "row")
    seen = model.seen(*_key(model, text))
    beside = Beside(
        key=text,
        exists=seen.row is not None,
        position=seen.checkpoint.position,
        fields=_fields(model, seen.row, {}),
    )
    if not model.projection.is_by_aggregate:
        return beside
    last = _last_event(text, beside.position)
    return beside if last is None else _replayed(model, beside, seen.row, last)


def cell(params: Mapping[str, str]) -> bytes:
    """The whole value of a `column` of a `row`.

    Raises:
        NoRow: there is none with that key.
        InvalidAddress, InvalidQuestion: what is asked for cannot be.
        ProjectionUnknown, ProjectionNotBuilt, ProjectionOutdated: there is no such table.
    """
    model, text = _model(params), required(params, "row")
    column = model.column(required(params, "column"))
    found = model.get(*_key(model, text))
    if found is None:
        raise NoRow(f"no row {text[:SHOWN]!r}")
    return (spelled(found[column.name]) or "").encode()


def _projections() -> Projections:
    store = resources.store()
    if store is None:
        raise NoReadModels("These events are in no store: it has no read models.")
    if not store.projections.declared:
        raise NoReadModels(
            "No domain here declares a projection: name one that does in EVENT_STORE_DOMAIN, "
            "such as users:domain."
        )
    return store.projections


def _model(params: Mapping[str, str]) -> ReadModel:
    return _projections().read_model(required(params, "projection"))


def _page(model: ReadModel, params: QueryParams) -> Page:
    order = params.get("order") or "asc"
    if order not in {"asc", "desc"}:
        raise InvalidAddress(f"order: {order[:SHOWN]!r} is not asc or desc")
    filters = [model.filter(text) for text in params.getlist("where") if text]
    after, before = (params.get(name) or None for name in ("after", "before"))

    def query(after: str | None, before: str | None) -> Page:
        return model.query(
            *filters,
            sort=params.get("sort") or None,
            descending=order == "desc",
            after=after,
            before=before,
            limit=PAGE,
        )

    page = query(after, before)
    # All that comes before may be less than a page, which the first one is not.
    return query(None, None) if before and page.previous is None else page


def _line(model: ReadModel, row: Row) -> Line:
    cells = [_cell(spelled(value), LONGEST_CELL) for value in row.values()]
    return Line(_key_text(model.key_of(row)), cells)


def _cell(text: str | None, longest: int) -> Cell:
    return text if text is None or len(text) <= longest else Cut(text[:longest], len(text))


def _key_text(key: Key) -> str:
    texts = [spelled(value) or "" for value in key]
    return texts[0] if len(texts) == 1 else msgspec.json.encode(texts).decode()


def _key(model: ReadModel, text: str) -> Key:
    """The primary key that an address names.

    Raises:
        InvalidAddress: it has another number of values.
        InvalidQuestion: one of them cannot be of its column.
    """
    names = model.projection.key_columns
    texts = [text] if len(names) == 1 else _listed(text)
    if len(texts) != len(names):
        example = msgspec.json.encode(names).decode()
        raise InvalidAddress(f"row: {text[:SHOWN]!r} is not a key such as {example}")
    return tuple(parsed(model.column(name), each) for name, each in zip(names, texts, strict=True))


def _listed(text: str) -> Sequence[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return []


def _replayed(model: ReadModel, beside: Beside, row: Row | None, last: Event) -> Beside:
    """The row beside the replay of its aggregate up to an event."""
    effect = resources.states().effect(last)
    fields = beside.fields if effect.failure else _fields(model, row, _state(effect.state))
    left_out = _projections().failures(model.projection.name, aggregate_id=last.aggregate_id)
    return replace(
        beside,
        fields=fields,
        differing=sum(each.differs for each in fields),
        newest=resources.source().aggregate(last.aggregate_id).version,
        last=Last(
            version=last.version,
            position=last.position or 0,
            event_type=last.event_type,
            occurred_at=last.occurred_at,
        ),
        generic=effect.generic,
        failure=effect.failure,
        skipped=[each.version for each in left_out if each.skipped],
    )


def _last_event(aggregate_id: str, position: int) -> Event | None:
    """The last event of an aggregate up to a position."""
    history = resources.source().events(aggregate_id, backward=True)
    return next((event for event in history if (event.position or 0) <= position), None)


def _state(state: Any) -> Mapping[str, Any]:
    if isinstance(state, msgspec.Struct):
        return {name: getattr(state, name) for name in state.__struct_fields__}
    return state if isinstance(state, dict) else {"state": state}


def _fields(model: ReadModel, row: Row | None, state: Mapping[str, Any]) -> Sequence[Field]:
    """The columns, in their order, and then the fields of the state that are no columns."""
    names = dict.fromkeys([*(row or {}), *state])
    return [_field(model, name, row or {}, state) for name in names]


def _field(model: ReadModel, name: str, row: Row, state: Mapping[str, Any]) -> Field:
    column = model.table.columns.get(name)
    found, replayed = row.get(name), state.get(name)
    is_both = name in row and name in state
    return Field(
        name=name,
        kind="other" if column is None else kind_of(column),
        row=_cell(spelled(found), LONGEST_VALUE),
        state=_cell(spelled(document(replayed)), LONGEST_VALUE),
        in_row=name in row,
        in_state=name in state,
        differs=is_both and not _agree(found, replayed),
    )


def _agree(found: Any, replayed: Any) -> bool:
    """Whether a column and a field say the same, be it in other types."""
    return bool(found == replayed) or is_same(document(found), document(replayed))


def _mark(watermark: Watermark) -> Mark:
    holder = watermark.holder
    return Mark(
        position=watermark.position,
        is_held=holder is not None,
        pid=None if holder is None else holder.pid,
        since=_moment(None if holder is None else holder.since),
    )


def _standing(standing: ProjectionStanding, projections: Projections) -> Standing:
    live = standing.checkpoint
    return Standing(
        name=standing.projection,
        table=standing.table,
        by_aggregate=projections.projection(standing.projection).is_by_aggregate,
        state=standing.state,
        version=standing.version,
        built=None if live is None else live.version,
        code_changed=standing.code_changed,
        position=None if live is None else live.position,
        moved_at=_moment(None if live is None else live.moved_at),
        moved_by=None if live is None else live.moved_by,
        lag=standing.lag,
        failure=None if standing.failure is None else _missed(standing.failure),
        skipped=standing.skipped,
        checked_at=_moment(None if live is None else live.checked_at),
        drift=None if live is None else live.drift,
        building=_made(standing.building),
        comparing=_made(standing.comparing),
    )


def _missed(failure: Failure) -> Missed:
    return Missed(
        position=failure.position,
        aggregate_id=failure.aggregate_id,
        version=failure.version,
        event_type=failure.event_type,
        handler=failure.handler,
        why=failure.reason,
        error=failure.error,
        failed_at=to_microseconds(failure.failed_at),
    )


def _made(checkpoint: Checkpoint | None) -> Made | None:
    if checkpoint is None:
        return None
    return Made(
        position=checkpoint.position,
        goal=checkpoint.goal,
        moved_at=to_microseconds(checkpoint.moved_at),
        moved_by=checkpoint.moved_by,
    )


def _moment(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)
