"""`hindsight migrate`."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click
from sqlalchemy import Connection

from store import application, migrations
from store.cli.parameters import Name
from store.cli.program import domain_option, store_option
from store.domain import Domains
from store.projections import Projections
from store.roles import create_roles, grant_application, grant_archiver, grant_reader


class Role(NamedTuple):
    """A role that may be named, and what it is let do."""

    option: str
    name: str | None
    grant: Callable[[Connection, str], None]
    told: str


@click.command()
@click.option("--revision", default="head", help="Only up to this one.")
@click.option(
    "--app-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role append and read, and nothing more.",
)
@click.option(
    "--reader-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role read, as the dashboard does, and write nothing.",
)
@click.option(
    "--archiver-role",
    metavar="NAME",
    type=Name(),
    help="PostgreSQL: let this existing role archive, too, as workers do.",
)
@click.option(
    "--create-roles",
    "passwords",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Make those of these roles that are not there yet; their passwords are in files of their "
    "names in FOLDER.",
)
@domain_option
@store_option()
def migrate(
    *,
    url: str,
    domains: Domains,
    revision: str,
    app_role: str | None,
    reader_role: str | None,
    archiver_role: str | None,
    passwords: Path | None,
) -> None:
    """Bring the store's schema up to date, or create it.

    The tables of the domain's read models that there are not yet are created, too.

    \b
    Examples:
      hindsight migrate --url sqlite:///shop.db --domain shop:domain
      hindsight migrate --url postgresql://owner@db/shop --app-role shop_service
      hindsight migrate --reader-role shop_dashboard --create-roles /run/secrets
    """
    parsed = application.parse_url(url)
    roles = (
        Role("--app-role", app_role, grant_application, "append and read"),
        Role("--reader-role", reader_role, grant_reader, "read"),
        Role("--archiver-role", archiver_role, grant_archiver, "append, read and archive"),
    )
    named = [role for role in roles if role.name is not None]
    if named and parsed.get_backend_name() != "postgresql":
        raise click.UsageError(f"{named[0].option} is for PostgreSQL; SQLite has no roles")
    if passwords is not None and not named:
        raise click.UsageError("--create-roles makes the roles that are named; name one")
    before = application.migrate(url, revision)
    with closing(application.connect(parsed)) as database, database.transaction() as connection:
        after = migrations.current_revision(connection)
        if passwords is not None:
            create_roles(connection, [str(role.name) for role in named], passwords)
        for role in named:
            role.grant(connection, str(role.name))
    click.echo(f"{application.display_name(parsed)}: {before or 'nothing'} → {after}")
    if revision == "head":
        _build_read_models(url, domains)
    for role in named:
        click.echo(f"{role.name} may {role.told}")


def _build_read_models(url: str, domains: Domains) -> None:
    # Behind the grants: who may read and write events may do so there, too.
    with closing(application.connect(application.parse_url(url))) as database:
        projections = Projections(database, domains)
        for name in projections.build_missing():
            table = projections.declared[name].table.name
            click.echo(f"table {table} created for projection {name}")
