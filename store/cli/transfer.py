"""`hindsight import` and `hindsight export`."""

import io
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import click

from store.application import Hindsight, open_source
from store.cli.columns import shown
from store.cli.output import whole_file
from store.cli.parameters import Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.log import EventLog
from store.sources import EventSource
from store.subscription import settled_position
from store.transfer import Imported, export_events, import_events


@click.command("import")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--rejects", metavar="FILE", help="Gets each rejected line, as a line of JSON.")
@click.option("--renumber", is_flag=True, help="Versions count from 0 in the file.")
@click.option("--restore", is_flag=True, help="Keep the file's recorded_at.")
@store_option()
@click.pass_context
def import_(
    context: click.Context,
    *,
    url: str,
    file: str,
    rejects: str | None,
    renumber: bool,
    restore: bool,
) -> None:
    """Append the events of a file, NDJSON or CloudEvents, gzipped or not.

    What is stored already is recognised: an import may be interrupted and run again. Exit code 1:
    lines were rejected.

    \b
    Examples:
      hindsight import events.ndjson.gz
      hindsight import events.ndjson --rejects rejected.ndjson --renumber
      zcat backup-*.gz | hindsight import --restore
    """
    with ExitStack() as opened:
        store = opened.enter_context(Hindsight(url))
        stream = _input(file, opened)
        rejected = None if rejects is None else opened.enter_context(Path(rejects).open("wb"))
        bar = opened.enter_context(_bar("importing", _size(stream)))
        outcome = import_events(
            store.log,
            stream,
            renumber=renumber,
            restore=restore,
            rejects=rejected,
            progress=lambda _: bar.update(max(0, _offset(stream) - bar.pos)),
        )
    _print(outcome)
    context.exit(FOUND if outcome.rejected else 0)


@click.command("export")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--aggregate", "aggregate_id", metavar="ID", type=Name(), help="Only this one.")
@click.option("--gzip", "compress", is_flag=True, help="As when FILE ends in .gz.")
@click.option("--upcast", is_flag=True, help="As the domain's code reads them today.")
@domain_option
@store_option(files=True)
def export(
    *,
    url: str,
    domains: Domains,
    file: str,
    aggregate_id: str | None,
    compress: bool,
    upcast: bool,
) -> None:
    """Write all events, or one aggregate's, as lines that `import` takes.

    A FILE appears, or is replaced, once it is complete. Events are written as they are stored, with
    --upcast as the code of the domain reads them.

    \b
    Examples:
      hindsight export events.ndjson.gz
      hindsight export today.ndjson --upcast --domain users:domain
      hindsight export --aggregate user-1 | jq .event_type
    """
    if upcast and not domains.domains:
        raise click.UsageError("--upcast: by whose code? give --domain or EVENT_STORE_DOMAIN")
    with open_source(url) as source:
        last = settled_position(source) if isinstance(source, EventLog) else None
        options: dict[str, Any] = {"aggregate_id": aggregate_id, "until": last}
        options["upcast"] = domains.upcast if upcast else None
        if file == "-":
            exported = _export(source, sys.stdout.buffer, compress=compress, **options)
        else:
            compress = compress or file.endswith(".gz")
            with whole_file(Path(file)) as stream:
                exported = _export(source, stream, compress=compress, **options)
    click.echo(f"exported {exported:,} events", err=True)


def _export(source: EventSource, stream: BinaryIO, **options: Any) -> int:
    whole = options["aggregate_id"] is None
    with _bar("exporting", options["until"] if whole else None) as bar:
        return export_events(
            source, stream, progress=lambda done: bar.update(done - bar.pos), **options
        )


def _bar(label: str, length: int | None) -> Any:
    hidden = length is None or not sys.stderr.isatty()
    return click.progressbar(length=length or 0, label=label, file=sys.stderr, hidden=hidden)


def _input(file: str, opened: ExitStack) -> io.BufferedReader:
    if file == "-":
        return sys.stdin.buffer  # type: ignore[return-value]  # it is one, wherever it comes from
    return opened.enter_context(Path(file).open("rb"))


def _size(stream: io.BufferedReader) -> int | None:
    """Bytes of a file; nobody knows how much comes through a pipe."""
    return os.fstat(stream.fileno()).st_size if stream.seekable() else None


def _offset(stream: io.BufferedReader) -> int:
    return stream.tell() if stream.seekable() else 0


def _print(outcome: Imported) -> None:
    for rejected in outcome.first_rejects:
        click.echo(shown(f"line {rejected.line}: {rejected.reason}"), err=True)
    if outcome.rejected > len(outcome.first_rejects):
        click.echo(f"… and {outcome.rejected - len(outcome.first_rejects):,} more", err=True)
    click.echo(
        f"{outcome.lines:,} lines: {outcome.imported:,} imported, {outcome.known:,} known before,"
        f" {outcome.rejected:,} rejected"
    )
