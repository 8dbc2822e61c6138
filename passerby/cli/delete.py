"""`passerby delete`: takes images out of a gallery, by name or by filter, or deletes it whole."""

from collections.abc import Sequence
from datetime import datetime

import click
from click.core import ParameterSource

from passerby.cli.options import filter_of, filter_options, gallery_option
from passerby.cli.terminal import say
from passerby.client import Client
from passerby.counted import counted


@click.command()
@click.argument("filenames", nargs=-1)
@gallery_option
@filter_options
@click.option("--all", "whole", is_flag=True, help="The gallery itself, with all of its images.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting by a filter, or all.")
@click.pass_context
def delete(
    ctx: click.Context,
    filenames: Sequence[str],
    gallery: str,
    cameras: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    tags: Sequence[tuple[str, str]],
    whole: bool,
    yes: bool,
) -> None:
    """Delete images from a gallery: these FILENAMES, or all that the filter matches.

    With --all, the gallery itself: its images, their names and vectors, what was kept and what was
    rejected of it. Images that wait in the queue are deleted too; what is pushed later makes the
    gallery anew. Interrupted, it is simply repeated.
    """
    client: Client = ctx.obj
    where = filter_of(cameras, since, until, tags)
    if whole:
        if filenames or where:
            raise click.UsageError("--all: give neither FILENAMES nor a filter")
        if ctx.get_parameter_source("gallery") is ParameterSource.DEFAULT:
            raise click.UsageError("--all: name the gallery with --gallery")
        _delete_gallery(client, gallery, yes=yes)
        return
    if bool(filenames) == bool(where):
        raise click.UsageError(
            "give FILENAMES, a filter (--camera, --since, --until, --tag) or --all"
        )
    if where and not yes:
        click.confirm(f"Delete every image of {gallery} that matches the filter?", abort=True)
    deleted = client.delete(gallery=gallery, filenames=filenames, where=where)
    asked = f" of {len(set(filenames)):,}" if filenames else ""
    say(f"Deleted {deleted:,}{asked} images from {gallery}.")


def _delete_gallery(client: Client, gallery: str, *, yes: bool) -> None:
    if not yes:
        typed = click.prompt(f"Delete {gallery} and everything in it? Type its name")
        if typed != gallery:
            raise click.ClickException(f"{typed!r} is not {gallery}: nothing was deleted")
    deleted = client.delete_gallery(gallery)
    say(f"Deleted the gallery {gallery} with {counted(deleted, 'image', 'images')}.")
