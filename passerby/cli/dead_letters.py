"""`passerby dead-letters`: what the indexer rejected and why; retry it or delete it."""

import dataclasses
import json

import click

from passerby.cli.options import GalleryName
from passerby.cli.terminal import complain, say, show_table
from passerby.client import Client


@click.command("dead-letters")
@click.option("--gallery", type=GalleryName(), help="Only those of this gallery; all if left out.")
@click.option("--retry", is_flag=True, help="Put them on the queue again.")
@click.option("--clear", is_flag=True, help="Delete them, with their images.")
@click.option("--yes", is_flag=True, help="Do not ask before --clear.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_obj
def dead_letters(
    client: Client, gallery: str | None, retry: bool, clear: bool, yes: bool, as_json: bool
) -> None:
    """List what could not be indexed and why; --retry or --clear it."""
    if retry and clear:
        raise click.UsageError("--retry or --clear, not both")
    where = f"of {gallery}" if gallery else "of all galleries"
    if retry:
        say(f"Put {client.retry_dead_letters(gallery):,} dead letters {where} on the queue again.")
        if left := sum(not letter.kept for letter in client.dead_letters(gallery)):
            complain(f"{left:,} were too large to be kept: push their images again, then --clear.")
    elif clear:
        if not yes:
            click.confirm(f"Delete the dead letters {where}, with their images?", abort=True)
        say(f"Deleted {client.clear_dead_letters(gallery):,} dead letters {where}.")
    elif as_json:
        letters = [dataclasses.asdict(letter) for letter in client.dead_letters(gallery)]
        click.echo(json.dumps(letters))
    else:
        rows = [
            (letter.gallery, letter.filename or "(whole entry)", letter.deliveries, letter.reason)
            for letter in client.dead_letters(gallery)
        ]
        if rows:
            show_table(("gallery", "filename", "deliveries", "reason"), rows)
        else:
            say(f"No dead letters {where}.")
