"""`passerby delete`: takes images out of a gallery, by name or by filter."""

from collections.abc import Sequence
from datetime import datetime

import click

from passerby.cli.options import filter_of, filter_options, gallery_option
from passerby.cli.terminal import say
from passerby.client import Client


@click.command()
@click.argument("filenames", nargs=-1)
@gallery_option
@filter_options
@click.option("--yes", is_flag=True, help="Do not ask before deleting by a filter.")
@click.pass_obj
def delete(
    client: Client,
    filenames: Sequence[str],
    gallery: str,
    cameras: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    tags: Sequence[tuple[str, str]],
    yes: bool,
) -> None:
    """Delete images from a gallery: these FILENAMES, or all that the filter matches."""
    where = filter_of(cameras, since, until, tags)
    if bool(filenames) == bool(where):
        raise click.UsageError("give FILENAMES or a filter (--camera, --since, --until, --tag)")
    if where and not yes:
        click.confirm(f"Delete every image of {gallery} that matches the filter?", abort=True)
    deleted = client.delete(gallery=gallery, filenames=filenames, where=where)
    asked = f" of {len(set(filenames)):,}" if filenames else ""
    say(f"Deleted {deleted:,}{asked} images from {gallery}.")
