"""`hindsight trace`."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from store.analysis import Stepper
from store.application import open_repository, parse_url
from store.cli.output import whole_file
from store.cli.parameters import WHOLE, Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.errors import VersionNotFound
from store.trace import Header, Masking, event_lines, page, told

OUT = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.option("-o", "out", metavar="FILE|-", required=True, type=OUT, help="Where it goes.")
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@click.option("--from", "first", type=WHOLE, metavar="N", help="From event N on.")
@click.option("--to", "last", type=WHOLE, metavar="N", help="Up to event N.")
@click.option("--ndjson", is_flag=True, help="The events alone, as `export` writes them.")
@click.option(
    "--field",
    "pointers",
    metavar="POINTER",
    multiple=True,
    help="Mask this field, too, such as /address/street or /items/*/name.",
)
@click.option("--unmasked", is_flag=True, help="Mask nothing.")
@domain_option
@store_option(files=True)
@click.pass_context
def trace(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    aggregate_id: str,
    out: Path,
    force: bool,
    ndjson: bool,
    **wanted: Any,
) -> None:
    """Write an aggregate's history into one HTML file, to be sent to somebody.

    It opens in a browser, without network: step by step, with the state and its changes, who set a
    field, and what differs between two versions. What the domain declares personal is masked. The
    file can be opened with `hindsight open`, too.

    Exit code 1: a version is missing; what comes before it is written.

    \b
    Examples:
      hindsight trace user-1 -o incident.html
      hindsight trace user-1 -o incident.html --from 40 --to 60 --field /lock_reason
      hindsight trace user-1 -o incident.ndjson --ndjson
      hindsight trace order-7 -o - --url events.ndjson.gz > order-7.html
    """
    if wanted["unmasked"] and wanted["pointers"]:
        raise click.UsageError("give either --unmasked or --field")
    if out.is_file() and not force:
        raise click.ClickException(f"{out}: is there already; replace it with --force")
    with open_repository(url, domains) as repository:
        stepper = Stepper(repository, aggregate_id)
        masking = _masking(domains, stepper.aggregate.aggregate_type, wanted)
        first, last = _versions(stepper, wanted["first"], wanted["last"])
        if ndjson:
            _write(out, event_lines(stepper, domains, masking, first=first, last=last))
            gap = None
        else:
            history = told(stepper, domains, masking, first=first, last=last)
            gap = history.gap
            header = Header(
                aggregate_id=masking.text(aggregate_id),
                aggregate_type=stepper.aggregate.aggregate_type,
                store=masking.text(_store_name(url)),
                made_at=datetime.now(UTC),
                first=first,
                cut=first > stepper.first_version,
                newest=stepper.aggregate.version,
                generic=stepper.generic,
                masked=None if wanted["unmasked"] else sorted({*masking.names, *masking.pointers}),
                gap=gap,
            )
            _write(out, page(header, history))
    _say(masking, domains, unmasked=wanted["unmasked"])
    if gap is not None:
        click.echo(f"error: {gap}", err=True)
        context.exit(FOUND)


def _masking(domains: Domains, aggregate_type: str, wanted: dict[str, Any]) -> Masking:
    if wanted["unmasked"]:
        return Masking()
    aggregate = domains.aggregate(aggregate_type)
    if aggregate is None:
        return Masking(pointers=wanted["pointers"])
    return Masking.of(aggregate, wanted["pointers"])


def _versions(stepper: Stepper, first: int | None, last: int | None) -> tuple[int, int]:
    """The first and the last version that are wanted."""
    newest = stepper.aggregate.version
    for version in (first, last):
        if version is not None and version > newest:
            raise VersionNotFound(stepper.aggregate.aggregate_id, version, newest=newest)
    first = max(stepper.first_version, first or 0)
    last = newest if last is None else last
    if first > last:
        raise click.UsageError(f"--from {first} is behind --to {last}")
    return first, last


def _store_name(url: str) -> str:
    """The store's name alone: neither the way to it nor a password."""
    return Path((parse_url(url).database or "") if "://" in url else url).name


def _write(out: Path, parts: Iterable[bytes]) -> None:
    if str(out) == "-":
        sys.stdout.buffer.writelines(parts)
        return
    with whole_file(out) as stream:
        stream.writelines(parts)


def _say(masking: Masking, domains: Domains, *, unmasked: bool) -> None:
    """What is masked, and why that may be nothing."""
    if masking.active:
        names = ", ".join(sorted({*masking.names, *masking.pointers}))
        click.echo(f"masked: {names}", err=True)
    elif unmasked:
        click.echo("nothing is masked", err=True)
    elif domains.domains:
        click.echo("nothing is masked: the domain declares nothing personal of it", err=True)
    else:
        click.echo(
            "nothing is masked: without a domain nothing is known to be personal;"
            " give --domain or --field",
            err=True,
        )
