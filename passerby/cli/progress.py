"""How far a push has come, on standard error: two bars on a terminal, a line at times elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from passerby.cli.terminal import complain
from passerby.values import Progress

# Where no bar can be drawn, a line this often shows that it goes on.
LINE_EVERY_S = 10

OnProgress = Callable[[Progress], None]


@contextmanager
def showing(total: int) -> Iterator[OnProgress]:
    """Yields what shows the progress of a push of `total` images."""
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
            bars.update(queued, completed=progress.queued + progress.unchanged)
            bars.update(searchable, completed=progress.searchable + progress.unchanged)

        yield show


def _lines(total: int) -> OnProgress:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            queued, searchable = progress.queued, progress.searchable + progress.unchanged
            complain(f"{queued:,} queued, {searchable:,} searchable of {total:,}")

    return show
