"""`hindsight verify`."""

import sys

import click
import msgspec

from store.application import Hindsight
from store.cli.columns import shown
from store.cli.parameters import Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.verification import Finding, Verification
from store.verification import verify as verify_log


@click.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--all", "everything", is_flag=True, help="Every aggregate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option()
@click.pass_context
def verify(
    context: click.Context,
    *,
    url: str,
    domains: Domains,
    aggregate_id: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Check one aggregate, or all, for what was changed, lost or put in behind the store's back.

    Every event's digest is computed anew; versions, positions, recording times and the
    aggregates' heads must fit together. Aggregates of a domain are replayed as well, twice: every
    event must fold, and both times into the same state, which their snapshots must equal. Exit
    code 1: something is wrong. The service may go on writing.

    \b
    Examples:
      hindsight verify user-1
      hindsight verify --all
      hindsight verify --all --json | jq .finding_count
    """
    if everything == (aggregate_id is not None):
        raise click.UsageError("give either an ID or --all")
    with Hindsight(url, read_only=True) as store:
        found = _verify(store, aggregate_id, domains)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _print(found)
    context.exit(FOUND if found.finding_count else 0)


def _verify(store: Hindsight, aggregate_id: str | None, domains: Domains) -> Verification:
    with click.progressbar(
        length=store.database.last_position(),
        label="checking",
        file=sys.stderr,
        hidden=aggregate_id is not None or not sys.stderr.isatty(),
    ) as bar:
        return verify_log(store.log, aggregate_id, bar.update, domains=domains)


def _print(found: Verification) -> None:
    for finding in found.findings:
        click.echo(_line(finding))
    if found.finding_count > len(found.findings):
        click.echo(f"… and {found.finding_count - len(found.findings):,} more")
    faults = "1 fault" if found.finding_count == 1 else f"{found.finding_count:,} faults"
    replayed = f", {found.replayed:,} events replayed" if found.replayed else ""
    snapshots = f", {found.snapshots:,} snapshots" if found.snapshots else ""
    click.echo(
        f"checked {found.events:,} events, {found.aggregates:,} aggregates{replayed}{snapshots}:"
        f" {faults if found.finding_count else 'nothing wrong'}"
    )


def _line(finding: Finding) -> str:
    place = "" if finding.version is None else f" version {finding.version}"
    place += "" if finding.position is None else f" position {finding.position}"
    return shown(f"{finding.kind}: {finding.aggregate_id}{place}: {finding.explanation}")
