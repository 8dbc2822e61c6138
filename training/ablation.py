"""What each part of the recipe is worth: the presets and their variants on one budget of images.

`python -m training ablation DATASET --hard DATASET -o DIR` prints a table for docs/training.md.
"""

from dataclasses import replace
from pathlib import Path

import click
import torch

from training.data.datasets import Dataset, read_dataset, with_validation
from training.display import explained
from training.distributed import DistributedContext
from training.evaluation.evaluate import Evaluation
from training.finalise import check_tests, finalise_run
from training.recipe import PAPER, RECOMMENDED, Recipe
from training.run import read_history
from training.train import train

ARMS = {
    "paper": PAPER,
    "recommended": RECOMMENDED,
    "no contrastive": replace(RECOMMENDED, contrastive_weight=0.0),
    "no CMPM": replace(RECOMMENDED, cmpm_weight=0.0),
    "CMPM only": replace(RECOMMENDED, contrastive_weight=0.0, cmpc_weight=0.0),
    "CMPC only": replace(RECOMMENDED, contrastive_weight=0.0, cmpm_weight=0.0),
    "forward-only LSTM": replace(
        RECOMMENDED, architecture=replace(RECOMMENDED.architecture, recurrence="forward_twice")
    ),
    "no EMA": replace(RECOMMENDED, ema_decay=0.0),
}
CPU = DistributedContext(torch.device("cpu"))
COLUMNS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "hard: Rank-1", "hard: mAP", "images/s")


@click.command()
@click.argument("dataset", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hard", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--images", type=click.IntRange(min=32), default=8000, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--image-size", type=click.IntRange(32, 1024), nargs=2, default=(64, 32))
@click.option("--dimension", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--arm", "arms", type=click.Choice(list(ARMS)), multiple=True, help="Only these.")
def ablation(
    dataset: Path,
    hard: Path,
    output: Path,
    images: int,
    epochs: int,
    image_size: tuple[int, int],
    dimension: int,
    arms: tuple[str, ...],
) -> None:
    """Train each arm on the first images of DATASET's split train and measure it on its split
    test and on HARD's. Each arm sees as many images, at the same size and with towers of the same
    size; the rest is its own. A table of Markdown is printed line by line.
    """
    with explained():
        data = with_validation(_first(read_dataset(dataset), images), RECOMMENDED.seed)
        tests = {"test": data, "hard": read_dataset(hard)}
        click.echo(f"| {' | '.join(('arm', *COLUMNS))} |\n|{' --- |' * (1 + len(COLUMNS))}")
        for arm in arms or ARMS:
            recipe = _on_budget(ARMS[arm], epochs, image_size, dimension)
            run = output / arm.replace(" ", "-")
            check_tests(run, tests, recipe)
            train(data, recipe, run, name=arm, context=CPU)
            found = finalise_run(run, tests, CPU.device)
            speeds = [row["images_per_second"] for row in read_history(run)]
            click.echo(_row(arm, found["test"], found["hard"], max(speeds)))


def _first(dataset: Dataset, images: int) -> Dataset:
    others = (*dataset.split("val"), *dataset.split("test"))
    return replace(dataset, images=(*dataset.split("train")[:images], *others))


def _on_budget(arm: Recipe, epochs: int, image_size: tuple[int, int], dimension: int) -> Recipe:
    architecture = replace(
        arm.architecture, word_dimension=dimension, hidden=dimension, dimension=dimension
    )
    height, width = image_size
    return replace(
        arm,
        architecture=architecture,
        image_height=height,
        image_width=width,
        epochs=epochs,
        patience=0,
    )


def _row(arm: str, easy: Evaluation, hard: Evaluation, images_per_second: float) -> str:
    found, interval = easy.text_to_image, easy.text_to_image_interval["rank_1"]
    figures = (
        f"{found.rank_1:.1f} ({interval.low:.1f} to {interval.high:.1f})",
        f"{found.rank_5:.1f}",
        f"{found.rank_10:.1f}",
        f"{found.mean_average_precision:.1f}",
        f"{hard.text_to_image.rank_1:.1f}",
        f"{hard.text_to_image.mean_average_precision:.1f}",
        f"{images_per_second:.0f}",
    )
    return f"| {' | '.join((arm, *figures))} |"
