"""`python -m dashboard`: the dashboard over a store, an event file or another system's table."""

import sys

import click

from dashboard.server import DEFAULT_HOST, DEFAULT_PORT, serve
from store.domain import Domains, load_domains
from store.errors import EventStoreError
from store.settings import Settings


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--source",
    metavar="URL|FILE",
    help="URL of a store or of another system's event table, or an event file (.ndjson, "
    ".ndjson.gz). Default: EVENT_STORE_READ_URL, else EVENT_STORE_URL.",
)
@click.option("--domain", metavar="MODULE:NAME", help="Default: EVENT_STORE_DOMAIN.")
@click.option("--demo", is_flag=True, help="Show a demo store, written to data/demo.db once.")
@click.option("--host", default=DEFAULT_HOST, show_default=True)
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="0 takes any free port.")
@click.option("--expose", is_flag=True, help="Serve other machines too; there is no login yet.")
@click.option(
    "--operate",
    is_flag=True,
    help="Run the store's workers here, too, and let whoever comes redrive what failed.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in your browser.")
def main(
    *,
    source: str | None,
    domain: str | None,
    demo: bool,
    host: str,
    port: int,
    expose: bool,
    operate: bool,
    open_browser: bool,
) -> None:
    """Show an event store's history in the browser."""
    if demo and source:
        raise click.UsageError("--demo brings its own store; leave --source away")
    try:
        serve(
            source=_demo_store() if demo else source or _configured_source(),
            domains=_domains(domain),
            host=host,
            port=port,
            expose=expose,
            # The demo's store is nobody's but the demo's.
            operate=operate or (demo and not expose),
            open_browser=open_browser,
        )
    except EventStoreError as error:
        sys.exit(_complain(error))


def _configured_source() -> str:
    settings = Settings.from_environment()
    return settings.read_url or settings.url


def _domains(given: str | None) -> Domains:
    paths = given or Settings.from_environment().domain
    return load_domains(paths) if paths else Domains()


def _demo_store() -> str:
    from dashboard.demo import PATH, ensure_store  # noqa: PLC0415 - only the demo writes

    if not PATH.exists():
        click.echo(f"Writing a demo store to {PATH}, a few seconds …", err=True)
    return ensure_store(Settings.from_environment().domain or "")


def _complain(error: EventStoreError) -> int:
    click.echo(f"error: {' '.join(str(error).split())}", err=True)
    return 2


if __name__ == "__main__":
    main(prog_name="python -m dashboard")
