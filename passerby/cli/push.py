"""`passerby push`: folders, files, lists and data sets into a gallery, with a progress bar."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from passerby.cli.cluster import cluster_options
from passerby.cli.options import Moment, Tag, dict_of, gallery_option
from passerby.cli.push_job import start as start_job
from passerby.cli.terminal import complain, plain, say
from passerby.client import Client
from passerby.cluster.job import PushJob
from passerby.sources import SPLITS, About, find, images
from passerby.values import Failure, Progress

# Where no bar can be drawn, a line this often shows that it goes on.
LINE_EVERY_S = 10
FAILURES_SHOWN = 20
INTERRUPTED = 130

OnProgress = Callable[[Progress], None]


class Shard(click.ParamType[tuple[int, int]]):
    """I/N: the share number I, from 0, of N."""

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
@click.option("--camera", default="", help="The camera that took all of them.")
@click.option("--captured-at", type=Moment(), help="When all of them were taken.")
@click.option("--tag", "tags", type=Tag(), multiple=True, help="A tag of all of them.")
@click.option("--split", type=click.Choice(SPLITS), help="Only this split of a data set.")
@click.option(
    "--shard", type=Shard(), default="0/1", help="Only share I, from 0, of N of the images."
)
@click.option("--wait/--no-wait", default=True, help="Until a search finds them. [default: wait]")
@click.option("--job", is_flag=True, help="Push from within a Kubernetes cluster.")
@click.option("--workers", type=click.IntRange(1, 1000), default=1, help="--job: pods.")
@click.option("--claim", help="--job: PersistentVolumeClaim that SOURCE lies on.")
@click.option("--image", help="--job: instead of the indexer's image.")
@click.option("--dry-run", is_flag=True, help="--job: print the Job and make nothing.")
@cluster_options
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
    job: bool,
    workers: int,
    claim: str | None,
    image: str | None,
    dry_run: bool,
    **cluster: Any,
) -> None:
    """Put images into a gallery.

    A SOURCE is a folder (images are named by their path below it), a data set in CUHK-PEDES's
    layout (a folder with reid_raw.json; named by file_path), an image file, a .txt file with a
    list of files, or - for such a list on standard input. A URL such as s3://bucket/folder is
    listed here and read by the indexer, if its operator allowed that.

    Pushing an image again replaces it, so a push that was cut off is simply repeated. The exit
    code is 1 if an image could not be indexed, 75 if a service is away for the moment.

    With --job the release's namespace gets a Job that runs this command, so that the images go
    the short way: SOURCE is then a URL, or a path on the claim. Each of the pods pushes its
    share; one that is cut off pushes its share again.
    """
    if job:
        if shard != (0, 1):
            raise click.UsageError("--job shares out the images among its --workers, not --shard")
        options = _about_arguments(camera, captured_at, tags, split, wait=wait)
        start_job(
            PushJob(sources, options, gallery, workers, claim, image), dry_run=dry_run, **cluster
        )
        return
    of_job = {"--claim": claim, "--image": image, "--dry-run": dry_run, "--workers": workers > 1}
    if given := [option for option, value in of_job.items() if value]:
        raise click.UsageError(f"{given[0]} needs --job")
    about = About(camera, captured_at, dict_of(tags))
    index, of = shard
    found = [find(source, sys.stdin.buffer, split=split, shard=index, of=of) for source in sources]
    total = sum(len(source.names) for source in found)
    unreadable: list[Failure] = []
    readable = images(found, about, unreadable.append)
    latest = Progress(0, 0, ())
    with showing(total) as show:

        def on_progress(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            show(progress)

        try:
            client.push(readable, gallery=gallery, wait=wait, on_progress=on_progress)
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    if interrupted:
        complain(
            f"Stopped. {latest.queued:,} of {total:,} images are queued and will be indexed; "
            f"push again for the rest."
        )
        sys.exit(INTERRUPTED)
    failures = [*unreadable, *latest.failures]
    if wait:
        say(f"{latest.searchable:,} images are searchable in {gallery}.")
    else:
        say(f"{latest.queued:,} images are queued for {gallery}; `passerby status` follows them.")
    report(failures, gallery)
    sys.exit(1 if failures else 0)


def _about_arguments(
    camera: str,
    captured_at: datetime | None,
    tags: Sequence[tuple[str, str]],
    split: str | None,
    *,
    wait: bool,
) -> list[str]:
    """The options of this push, as the pods are given them."""
    arguments = [f"--camera={camera}"] if camera else []
    if captured_at:
        arguments.append(f"--captured-at={captured_at.isoformat()}")
    arguments += [f"--tag={key}={value}" for key, value in tags]
    if split:
        arguments.append(f"--split={split}")
    return arguments if wait else [*arguments, "--no-wait"]


def report(failures: Sequence[Failure], gallery: str) -> None:
    if not failures:
        return
    complain(f"{len(failures):,} failed:")
    for failure in failures[:FAILURES_SHOWN]:
        complain(f"  {_in_one_line(failure)}")
    if len(failures) > FAILURES_SHOWN:
        complain(f"  and {len(failures) - FAILURES_SHOWN:,} more")
    complain(
        f"What the indexer refused is kept: passerby dead-letters --gallery {gallery} [--retry]"
    )


def _in_one_line(failure: Failure) -> str:
    if failure.filename and failure.filename in failure.reason:
        return failure.reason
    return f"{failure.filename or 'a whole batch'}: {failure.reason}"


@contextmanager
def showing(total: int) -> Iterator[OnProgress]:
    """Shows progress on standard error: two bars on a terminal, now and then a line elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        queued = bars.add_task("queued", total=total)
        searchable = bars.add_task("searchable", total=total)

        def show(progress: Progress) -> None:
            bars.update(queued, completed=progress.queued)
            bars.update(searchable, completed=progress.searchable)

        yield show


def _lines(total: int) -> OnProgress:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            line = f"{progress.queued:,} queued, {progress.searchable:,} searchable of {total:,}"
            click.echo(plain(line), err=True)

    return show
