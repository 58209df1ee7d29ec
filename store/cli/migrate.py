"""`hindsight migrate`."""

from contextlib import closing

import click

from store import application, migrations
from store.cli.parameters import Name
from store.cli.program import domain_option, store_option
from store.domain import Domains
from store.projections import Projections
from store.roles import grant_application, grant_archiver


@click.command()
@click.option("--revision", default="head", help="Only up to this one.")
@click.option(
    "--app-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role append and read, and nothing more.",
)
@click.option(
    "--archiver-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role archive, too, as workers do.",
)
@domain_option
@store_option()
def migrate(
    *,
    url: str,
    domains: Domains,
    revision: str,
    app_role: str | None,
    archiver_role: str | None,
) -> None:
    """Bring the store's schema up to date, or create it.

    The tables of the domain's read models that there are not yet are created, too.

    \b
    Examples:
      hindsight migrate --url sqlite:///shop.db --domain shop:domain
      hindsight migrate --url postgresql://owner@db/shop --app-role shop_service
    """
    parsed = application.parse_url(url)
    for option, role in (("--app-role", app_role), ("--archiver-role", archiver_role)):
        if role is not None and parsed.get_backend_name() != "postgresql":
            raise click.UsageError(f"{option} is for PostgreSQL; SQLite has no roles")
    before = application.migrate(url, revision)
    with closing(application.connect(parsed)) as database, database.transaction() as connection:
        after = migrations.current_revision(connection)
        if app_role is not None:
            grant_application(connection, app_role)
        if archiver_role is not None:
            grant_archiver(connection, archiver_role)
    click.echo(f"{application.display_name(parsed)}: {before or 'nothing'} → {after}")
    if revision == "head":
        _build_read_models(url, domains)
    if app_role is not None:
        click.echo(f"{app_role} may append and read")
    if archiver_role is not None:
        click.echo(f"{archiver_role} may append, read and archive")


def _build_read_models(url: str, domains: Domains) -> None:
    # Behind the grants: who may read and write events may do so there, too.
    with closing(application.connect(application.parse_url(url))) as database:
        projections = Projections(database, domains)
        for name in projections.build_missing():
            table = projections.declared[name].table.name
            click.echo(f"table {table} created for projection {name}")
