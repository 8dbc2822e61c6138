"""What the commands print: a bar while a run goes on, its figures, and errors as messages."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from passerby.errors import PasserbyError
from services.embedder.dcpl.model_directory import InvalidModel
from training.checkpoint import UnusableCheckpoint
from training.data.datasets import Dataset, InvalidDataset
from training.evaluation.evaluate import Evaluation
from training.learner import TrainingDiverged
from training.pretrained import UnusableWeights
from training.recipe import Recipe
from training.run import Epoch
from training.train import Callbacks

console = Console(soft_wrap=True)


@contextmanager
def progress_bar(dataset: Dataset, recipe: Recipe) -> Iterator[Callbacks]:
    """A bar with losses, images/s and time left, and a line for each epoch."""
    bar = Progress(
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=console,
    )
    images = len(dataset.split("train"))
    per_epoch = images // recipe.batch_size * recipe.batch_size
    task = bar.add_task("", total=recipe.epochs * per_epoch, state="")

    def step(images: int, losses: dict[str, float]) -> None:
        speed = bar.tasks[task].speed or 0
        bar.update(task, advance=images, state=f"{_in_words(losses)}  {speed:.0f} images/s")

    def epoch(done: Epoch) -> None:
        bar.update(task, completed=done.number * per_epoch)
        found = done.validation
        console.print(
            f"epoch {done.number:>3}  {_in_words(done.losses)}  "
            f"{done.images_per_second:.0f} images/s  "
            f"validation Rank-1 {found['rank_1']:.2f}  Rank-10 {found['rank_10']:.2f}  "
            f"mAP {found['mean_average_precision']:.2f}",
            highlight=False,
        )

    with bar:
        yield Callbacks(step=step, epoch=epoch)


def _in_words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def print_figures(title: str, evaluation: Evaluation) -> None:
    """Both directions with the interval of Rank-1 and what chance would reach."""
    console.print(
        f"{title}: {evaluation.gallery_images:,} images of {evaluation.identities:,} people"
    )
    for direction in ("text_to_image", "image_to_text"):
        found = getattr(evaluation, direction)
        console.print(
            f"  {direction.replace('_', ' '):<14}Rank-1 {found.rank_1:.2f}  "
            f"Rank-5 {found.rank_5:.2f}  Rank-10 {found.rank_10:.2f}  "
            f"mAP {found.mean_average_precision:.2f}  "
            f"mINP {found.mean_inverse_negative_penalty:.2f}  ({found.queries:,} queries)",
            highlight=False,
        )
    interval = evaluation.text_to_image_interval["rank_1"]
    console.print(
        f"  Rank-1 text to image, 95 % interval {interval.low:.2f} to {interval.high:.2f}; "
        f"chance {evaluation.chance_rank_1:.2f} (Rank-10 {evaluation.chance_rank_10:.2f})",
        highlight=False,
    )


@contextmanager
def explained() -> Iterator[None]:
    """What is wrong with data, files or numbers becomes the command's message, exit code 1."""
    try:
        yield
    except (
        InvalidDataset,
        InvalidModel,
        UnusableCheckpoint,
        UnusableWeights,
        TrainingDiverged,
        PasserbyError,
        OSError,
    ) as error:
        raise click.ClickException(str(error)) from error
