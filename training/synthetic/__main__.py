"""`python -m training.synthetic -o DIR`: draw a data set of people."""

from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from training.synthetic.dataset import generate


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--images", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; one for each processor.")
@click.option("--hard", is_flag=True, help="Only a test split, of people who look nearly alike.")
def main(output: Path, images: int, seed: int, workers: int | None, hard: bool) -> None:
    """Draw people on streets and describe them, in CUHK-PEDES's layout."""
    with Progress(
        "Drawing people", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task("", total=images)
        generate(
            output,
            images,
            seed,
            workers,
            hard,
            on_progress=lambda done, _: bar.update(task, completed=done),
        )


if __name__ == "__main__":
    main()
