"""`hindsight open`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from store.application import opened

NEEDED = ("dashboard", "numpy", "streamlit", "uvicorn")


@click.command("open")
@click.argument("source", metavar="URL|FILE")
@click.option(
    "--domain",
    metavar="MODULE:NAME",
    help="The domain's code, else EVENT_STORE_DOMAIN; several are separated by commas.",
)
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes any free port.")
@click.option("--operate", is_flag=True, help="Run the store's workers in the dashboard, too.")
def open_dashboard(
    *, source: str, domain: str | None, host: str | None, port: int | None, operate: bool
) -> None:
    """Open the dashboard on a store, or on events kept elsewhere without importing them.

    Those of an event file or a trace, or, in a PostgreSQL database without a store, of
    message-db's table or Marten's. If there are several such tables, ?table=SCHEMA.TABLE in the
    URL chooses one.

    \b
    Examples:
      hindsight open sqlite:///shop.db
      hindsight open events.ndjson.gz --port 8600
      hindsight open postgresql://reader@db/shop --domain shop:domain
      hindsight open sqlite:///shop.db --domain shop:domain --operate
      hindsight open incident.html
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"the dashboard needs {', '.join(missing)};"
            " run: pip install 'hindsight-event-store[dashboard]'"
        )
    _check_exists(source)
    options = {"--source": source, "--domain": domain, "--host": host, "--port": port}
    given = [str(part) for item in options.items() if item[1] is not None for part in item]
    given += ["--operate"] if operate else []
    # In place of this process, so that signals reach the server itself.
    os.execv(sys.executable, [sys.executable, "-m", "dashboard", *given, "--open"])  # noqa: S606


def _check_exists(source: str) -> None:
    if "://" in source:
        with opened(source):
            pass
    elif not Path(source).is_file():
        raise click.ClickException(f"{source}: no such file")
