"""`hindsight upcasters`."""

import sys
from typing import Any

import click
import msgspec

from store.application import open_source
from store.cli.columns import Columns, shown
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.sources import EventSource
from store.upcast_check import DryRun, Found, StoredVersion, dry_run, stored_versions

WORDS = {"dropped": "dropped", "null": "is null now", "type": "is of another type"}


@click.command()
@click.option("--dry-run", "dry", is_flag=True, help="Send the stored events through the steps.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="With --dry-run: only the newest N of each version.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option(files=True)
@click.pass_context
def upcasters(
    context: click.Context, /, *, url: str, domains: Domains, as_json: bool, **options: Any
) -> None:
    """Which schema versions are stored, and whether the domain's code reads them.

    With --dry-run the events themselves go through: which fail, which fields are dropped, become
    null or another type. Nothing is written. Exit code 1: something was found.

    \b
    Examples:
      hindsight upcasters --domain users:domain
      hindsight upcasters --dry-run --sample 1000
      hindsight upcasters --dry-run --json | jq .findings
    """
    dry, sample = options["dry"], options["sample"]
    if not domains.domains:
        raise click.UsageError("no domain named; give --domain MODULE:NAME or EVENT_STORE_DOMAIN")
    if sample is not None and not dry:
        raise click.UsageError("--sample goes with --dry-run")
    with open_source(url) as source:
        if dry:
            report = _dry_run(source, domains, sample)
            _print_report(report, as_json=as_json)
            context.exit(FOUND if report.findings else 0)
        versions = stored_versions(source, domains)
    _print_versions(versions, as_json=as_json)
    wrong = any(each.chain not in {"complete", "no domain code"} for each in versions)
    context.exit(FOUND if wrong else 0)


def _dry_run(source: EventSource, domains: Domains, sample: int | None) -> DryRun:
    with click.progressbar(
        length=source.counts().events,
        label="upcasting",
        file=sys.stderr,
        hidden=sample is not None or not sys.stderr.isatty(),
    ) as bar:
        return dry_run(source, domains, sample=sample, progress=bar.update)


def _print_versions(versions: tuple[StoredVersion, ...], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"versions": versions}))
        return
    columns = Columns("Aggregate", "Event", ">Version", ">Events", "Read as", ">Version", "Chain")
    for line in columns.lines(_row(each) for each in versions):
        click.echo(line)


def _row(each: StoredVersion) -> tuple[str, ...]:
    name, version = each.read_as or ("", "")
    return (
        each.aggregate_type,
        each.event_type,
        str(each.event_version),
        f"{each.events:,}",
        name,
        str(version),
        each.chain,
    )


def _print_report(report: DryRun, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    for finding in report.findings:
        click.echo(shown(_line(finding)))
    click.echo(f"{report.checked:,} events went through: {len(report.findings) or 'no'} findings")


def _line(found: Found) -> str:
    stored = f"{found.aggregate_type} {found.event_type} {found.event_version}"
    what = found.explanation if found.kind == "failed" else f"{found.path} {WORDS[found.kind]}"
    more = f" ({found.explanation})" if found.kind == "type" else ""
    events = "1 event" if found.events == 1 else f"{found.events:,} events"
    return f"{stored}: {what}{more}: {events}, first at position {found.first_position:,}"
