"""`hindsight migrate`."""

from contextlib import closing

import click

from store import application, migrations
from store.cli.parameters import Name
from store.cli.program import store_option
from store.roles import grant_application


@click.command()
@click.option("--revision", default="head", help="Only up to this one.")
@click.option(
    "--app-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role append and read, and nothing more.",
)
@store_option()
def migrate(*, url: str, revision: str, app_role: str | None) -> None:
    """Bring the store's schema up to date, or create it.

    \b
    Examples:
      hindsight migrate --url sqlite:///shop.db
      hindsight migrate --url postgresql://owner@db/shop --app-role shop_service
    """
    parsed = application.parse_url(url)
    if app_role is not None and parsed.get_backend_name() != "postgresql":
        raise click.UsageError("--app-role is for PostgreSQL; SQLite has no roles")
    before = application.migrate(url, revision)
    with closing(application.connect(parsed)) as database, database.transaction() as connection:
        after = migrations.current_revision(connection)
        if app_role is not None:
            grant_application(connection, app_role)
    click.echo(f"{application.display_name(parsed)}: {before or 'nothing'} → {after}")
    if app_role is not None:
        click.echo(f"{app_role} may append and read")
