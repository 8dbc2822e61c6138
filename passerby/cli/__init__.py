"""The command line: `passerby push`, `search`, `status` and the other commands."""

from typing import Any

import click

from passerby.cli.dead_letters import dead_letters
from passerby.cli.delete import delete
from passerby.cli.doctor import doctor
from passerby.cli.push import push
from passerby.cli.search import search
from passerby.cli.status import status
from passerby.cli.terminal import complain, plain
from passerby.client import DEFAULT_QUERY, DEFAULT_REDIS_URL, Client
from passerby.errors import PasserbyError, Unavailable


class TryAgainLater(click.ClickException):
    """The same command may work later: a service is unavailable or too busy."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Commands(click.Group):
    """Prints an error in one line; the exit code is 1, or 75 if the same command may work later."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PasserbyError as error:
            kind = TryAgainLater if isinstance(error, Unavailable) else click.ClickException
            raise kind(plain(str(error))) from error


@click.group(cls=Commands)
@click.option(
    "--query",
    envvar="PASSERBY_QUERY",
    default=DEFAULT_QUERY,
    show_default=True,
    show_envvar=True,
    help="Address of the query service's gRPC port.",
)
@click.option(
    "--redis-url",
    envvar="REDIS_URL",
    default=DEFAULT_REDIS_URL,
    show_default=True,
    show_envvar=True,
    help="The Redis that holds the queue, for push and dead-letters; see also REDIS_PASSWORD.",
)
@click.version_option(package_name="passerby")
@click.pass_context
def main(ctx: click.Context, query: str, redis_url: str) -> None:
    """Find people in millions of pedestrian images by describing them."""
    ctx.obj = ctx.with_resource(Client(query, redis_url, on_wait=complain))


for command in (push, search, status, dead_letters, delete, doctor):
    main.add_command(command)
