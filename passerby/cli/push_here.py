"""`passerby push` without --job: reads images on this machine and reports what became of them."""

import sys
from collections.abc import Sequence

from passerby.cli.progress import showing
from passerby.cli.terminal import complain, say
from passerby.client import Client
from passerby.sources import ImageMetadata, find, images
from passerby.values import Failure, Progress

FAILURES_SHOWN = 20
INTERRUPTED = 130


def run(
    client: Client,
    sources: Sequence[str],
    gallery: str,
    metadata: ImageMetadata,
    *,
    split: str | None,
    shard: tuple[int, int],
    wait: bool,
    outage_timeout_s: float,
    again: bool,
    follow_links: bool,
) -> None:
    """Exits with 0, with 1 if an image failed, or with 130 after Ctrl-C."""
    index, of = shard
    listings = [
        find(source, sys.stdin.buffer, split=split, shard=index, of=of) for source in sources
    ]
    total = sum(len(listing.names) for listing in listings)
    unreadable: list[Failure] = []
    readable = images(listings, metadata, unreadable.append, follow_links=follow_links)
    latest = Progress(0, 0, ())
    try:
        with showing(total) as show:

            def on_progress(progress: Progress) -> None:
                nonlocal latest
                latest = progress
                show(progress)

            client.push(
                readable,
                gallery=gallery,
                wait=wait,
                on_progress=on_progress,
                outage_timeout_s=outage_timeout_s,
                again=again,
            )
    except KeyboardInterrupt:
        complain(
            f"Stopped. {latest.queued:,} of {total:,} images are queued and will be indexed; "
            f"push again for the rest."
        )
        sys.exit(INTERRUPTED)
    _sum_up(latest, gallery, wait=wait)
    failures = [*unreadable, *latest.failures]
    _report(failures, gallery)
    sys.exit(1 if failures else 0)


def _sum_up(progress: Progress, gallery: str, *, wait: bool) -> None:
    if progress.unchanged:
        say(f"{progress.unchanged:,} images were searchable with the same content: not pushed.")
    if wait:
        say(f"{progress.searchable + progress.unchanged:,} images are searchable in {gallery}.")
    else:
        say(
            f"{progress.queued:,} images are queued for {gallery}; "
            "`passerby status` shows progress."
        )


def _report(failures: Sequence[Failure], gallery: str) -> None:
    if not failures:
        return
    complain(f"{len(failures):,} failed:")
    for failure in failures[:FAILURES_SHOWN]:
        complain(f"  {_in_one_line(failure)}")
    if len(failures) > FAILURES_SHOWN:
        complain(f"  and {len(failures) - FAILURES_SHOWN:,} more")
    complain(
        f"What the indexer rejected is kept: passerby dead-letters --gallery {gallery} [--retry]"
    )


def _in_one_line(failure: Failure) -> str:
    if failure.filename and failure.filename in failure.reason:
        return failure.reason
    return f"{failure.filename or 'a whole batch'}: {failure.reason}"
