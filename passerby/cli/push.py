"""`passerby push`: images into a gallery, read on this machine or by a Job in a cluster."""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from passerby import tracing
from passerby.cli import push_here, push_job
from passerby.cli.options import Moment, Tag, dict_of, gallery_option
from passerby.cli.terminal import complain
from passerby.client import OUTAGE_TIMEOUT_S, Client
from passerby.sources import SPLITS, ImageMetadata


class Shard(click.ParamType[tuple[int, int]]):
    """I/N: share number I, from 0, of N."""

    name = "i/n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        index, _, of = str(value).partition("/")
        if not (index.isdigit() and of.isdigit() and int(index) < int(of)):
            self.fail(f"{value!r} is not I/N with I from 0 to N-1, for example 0/4", param, ctx)
        return int(index), int(of)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@gallery_option
@click.option("--camera", default="", help="The camera that took the images.")
@click.option("--captured-at", type=Moment(), help="When the images were taken.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A tag for all of the images.")
@click.option("--split", type=click.Choice(SPLITS), help="Only this split of a data set.")
@click.option(
    "--shard", type=Shard(), default="0/1", help="Push only part I of N, counting from 0."
)
@click.option(
    "--wait/--no-wait",
    default=True,
    help="Wait until the images are searchable, or return once they are queued. [default: wait]",
)
@click.option(
    "--outage-timeout",
    "outage_timeout_s",
    type=click.FloatRange(min=0),
    default=OUTAGE_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up when Redis is away for this long.",
)
@click.option("--again", is_flag=True, help="Push what is searchable with the same content, too.")
@click.option(
    "--follow-links",
    is_flag=True,
    help="Push what links of files lead to, wherever that is on the machine that reads them.",
)
@push_job.options
@click.pass_obj
def push(
    client: Client,
    /,
    sources: Sequence[str],
    gallery: str,
    camera: str,
    captured_at: datetime | None,
    tags: Sequence[tuple[str, str]],
    split: str | None,
    shard: tuple[int, int],
    wait: bool,
    outage_timeout_s: float,
    again: bool,
    follow_links: bool,
    job: bool,
    **of_job: Any,
) -> None:
    """Put images into a gallery.

    A SOURCE is a folder (images are named by their path below it), a data set in CUHK-PEDES's
    layout (a folder with reid_raw.json; images are named by file_path), an image file, a .txt
    file that lists files, or - to read that list from standard input. A URL such as
    s3://bucket/folder is listed on this machine and read by the indexer, if its operator allows
    it.

    Pushing an image again replaces it. A push that was interrupted is simply repeated: what is
    searchable with the same content is left out, as far as the query service can be asked. The
    exit code is 1 if an image could not be indexed, 75 if a service is unavailable for now.

    With --job, a Kubernetes Job in the release's namespace runs this command, close to the
    images: SOURCE is then a URL, or a path on the volume of --claim. Each of its pods pushes its
    own share; one that is interrupted goes on where it was.
    """
    metadata = ImageMetadata(camera, captured_at, dict_of(tags))
    how: dict[str, Any] = {
        "split": split,
        "wait": wait,
        "outage_timeout_s": outage_timeout_s,
        "again": again,
        "follow_links": follow_links,
    }
    if job:
        if shard != (0, 1):
            raise click.UsageError("--job divides the images among its --workers; omit --shard")
        push_job.start(sources, gallery, metadata, **how, **of_job)
    else:
        push_job.refuse_options(of_job)
        _trace()
        push_here.run(client, sources, gallery, metadata, shard=shard, **how)


def _trace() -> None:
    """Has each entry begin a trace, if the environment names a collector."""
    if os.environ.get(tracing.ENDPOINT):
        try:
            click.get_current_context().call_on_close(tracing.start("passerby-push"))
        except ImportError:
            complain(f"{tracing.ENDPOINT} is set, but traces need: pip install 'passerby[tracing]'")
