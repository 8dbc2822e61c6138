"""`passerby status`: what is in the galleries, what waits, what was rejected."""

import dataclasses
import json

import click

from passerby.cli.terminal import say, show_table
from passerby.client import Client


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_obj
def status(client: Client, as_json: bool) -> None:
    """Show the galleries, their sizes, and what waits in the queue."""
    galleries = client.galleries()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(gallery) for gallery in galleries]))
        return
    if not galleries:
        say("No galleries yet: `passerby push FOLDER --gallery NAME` creates one.")
        return
    show_table(
        ("gallery", "images", "dead letters", "model"),
        [(g.name, f"{g.count:,}", f"{g.dead_letters:,}", g.model) for g in galleries],
    )
    say(f"In the queue: {galleries[0].pending:,} unfinished entries.")
    if any(gallery.dead_letters for gallery in galleries):
        say("What was rejected, and why: `passerby dead-letters`")
