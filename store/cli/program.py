"""The program around the commands: where the store is, and what becomes of errors."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from store.domain import Domains, load_domains
from store.errors import EventStoreError
from store.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

FOUND = 1
"""The exit code of a check that found something."""
BAD_INPUT = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141
"""What a shell reports of a program whose reader, such as `head`, had enough."""


class Program(click.Group):
    """The process boundary: an error is one line on stderr and an exit code, no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its output is out, or has failed to get out, when this returns."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            ctx.exit(OUTPUT_CLOSED)
        return result

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the program and exit."""
        # A domain is named from where the user stands, as servers and task runners take theirs.
        sys.path.insert(0, str(Path.cwd()))
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as help_wanted:
            help_wanted.show()
            code = BAD_INPUT
        except click.UsageError as error:
            hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            code = _complain(f"{error.format_message().rstrip('.')}{hint}")
        except click.ClickException as error:
            code = _complain(error.format_message())
        except EventStoreError as error:
            code = _complain(str(error))
        except OSError as error:
            _discard_output()
            code = _complain(f"{error.filename or 'output'}: {error.strerror or error}")
        except click.Abort:
            code = INTERRUPTED
        sys.exit(code)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The store; also after the command.")
@click.version_option(package_name="hindsight-event-store")
def hindsight(url: str | None) -> None:
    """An event store on SQLite or PostgreSQL.

    The store is where --url says, else the environment's EVENT_STORE_URL, else an SQLite file
    under data/.

    \b
    Examples:
      hindsight --url sqlite:///shop.db migrate
      hindsight append order order-1 OrderPlaced --data '{"total": 12}' --url sqlite:///shop.db
      EVENT_STORE_URL=postgresql://app@db/shop hindsight events --follow
    """
    del url  # `store_option` of the command finds it


def store_option(*, files: bool = False) -> Callable[[F], F]:
    """Gives a command its `url`: of the store or, where `files`, perhaps of an event file."""

    def where(context: click.Context, _: click.Parameter, given: str | None) -> str:
        at_program = context.find_root().params.get("url")
        return given or at_program or Settings.from_environment().url

    return click.option(
        "--url",
        metavar="URL|FILE" if files else "URL",
        callback=where,
        help="The store, or an event file or another system's table." if files else "The store.",
    )


def domain_option(command: F) -> F:
    """Gives a command its `domains`."""

    def which(_: click.Context, __: click.Parameter, given: str | None) -> Domains:
        paths = given or Settings.from_environment().domain
        return load_domains(paths) if paths else Domains()

    return click.option(
        "--domain",
        "domains",
        metavar="MODULE:NAME",
        callback=which,
        help="The domain's code, else EVENT_STORE_DOMAIN; several are separated by commas.",
    )(command)


def _complain(message: str) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return BAD_INPUT


def _discard_output() -> None:
    """Let nothing that is left in the buffer fail once more while Python ends."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # not a file: a test's
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
