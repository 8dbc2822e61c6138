"""Command line of training: prepare, train, evaluate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from passerby.errors import PasserbyError
from services.embedder.dcpl.model_directory import InvalidModel, load_model
from services.embedder.dcpl.network import IMAGE_TOWERS
from training.checkpoint import UnusableCheckpoint
from training.data import prepare as preparation
from training.data.datasets import (
    SPLITS,
    Dataset,
    InvalidDataset,
    read_dataset,
    with_validation,
)
from training.evaluation import metrics, report
from training.evaluation.deployed import rank_through_services
from training.evaluation.evaluate import Evaluation, evaluate_split
from training.finalise import check_tests, conclude
from training.learner import Place, TrainingDiverged
from training.pretrained import UnusableWeights, load_image_tower
from training.recipe import PRESETS, Recipe
from training.train import Epoch, Watch, train

DIRECTORY = click.Path(file_okay=False, path_type=Path)
DEVICE = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: CUDA where there is one.",
)
HARD = click.option(
    "--hard",
    type=DIRECTORY,
    help="A second data set whose test split is measured too, such as people who look alike.",
)
console = Console(soft_wrap=True)


@click.group()
def main() -> None:
    """From a captioned pedestrian data set to a model directory, and what the model reaches."""


@main.command()
@click.argument("dataset", type=DIRECTORY)
def prepare(dataset: Path) -> None:
    """Check every image and caption of a data set; exit code 1 if there is something to repair."""
    with _explained():
        findings = preparation.check(read_dataset(dataset))
    for line in findings.lines():
        console.print(line, highlight=False, markup=False)
    if not findings.is_usable:
        raise click.ClickException(
            f"{len(findings.defects):,} defects; repair them or leave them out of the annotations"
        )


@main.command("train")
@click.argument("dataset", type=DIRECTORY)
@click.option("-o", "--output", type=DIRECTORY, required=True, help="The run's folder.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="recommended")
@click.option("--name", help="What the model is called; the preset's name if left out.")
@click.option("--notes", default="", help="What whoever uses the model should know; for its card.")
@click.option("--licence", default="", help="Of the weights, for example Apache-2.0; for the card.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the preset's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Over all processes together.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True))
@click.option("--image-size", type=click.IntRange(32, 1024), nargs=2, help="HEIGHT WIDTH")
@click.option("--image-tower", type=click.Choice(IMAGE_TOWERS))
@click.option(
    "--tower-weights",
    help="ImageNet weights of the image tower: a file, or 'torchvision' to let it fetch its own.",
)
@click.option(
    "--tower-rate",
    type=click.FloatRange(min=0, max=1),
    help="Share of the learning rate for the image tower; 0.1 suits a pretrained one.",
)
@click.option(
    "--start-from",
    type=DIRECTORY,
    help="A finished run of the same data and preset whose weights this one begins with, for "
    "example to go on with larger images.",
)
@click.option("--seed", type=int)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads for PyTorch.")
@HARD
@DEVICE
def train_command(
    dataset: Path,
    output: Path,
    preset: str,
    name: str | None,
    notes: str,
    licence: str,
    tower_weights: str | None,
    start_from: Path | None,
    hard: Path | None,
    device: str,
    threads: int | None,
    **changes: Any,
) -> None:
    """Train a model on a data set's split train, choose the epoch by val, measure it on test.

    Where there is no val, 5 % of the people of train are held out as one; --seed says which.

    OUTPUT gets model/, report/, tensorboard/ and checkpoint.pt. The same command again goes on
    where the checkpoint stands. On several GPUs: torchrun --nproc-per-node N -m
    training train ...
    """
    if threads:
        torch.set_num_threads(threads)
    recipe = _recipe(preset, **changes)
    with _explained():
        place = _place(device, recipe.batch_size)
        data = with_validation(read_dataset(dataset), recipe.seed)
        tests = {"test": data} | ({"hard": read_dataset(hard)} if hard else {})
        if place.is_first:
            check_tests(output, tests, recipe)
            if data.held_out:
                people = len({image.identity for image in data.split("val")})
                console.print(f"no split val: {people:,} people of train held out for validation")
        with _watch(data, recipe) if place.is_first else nullcontext(Watch()) as watch:
            train(
                data,
                recipe,
                output,
                name=name or preset,
                notes=notes,
                licence=licence,
                place=place,
                start=start_from,
                prepare_network=lambda network: (
                    load_image_tower(network, tower_weights) if tower_weights else None
                ),
                watch=watch,
            )
        if place.is_first:
            for title, evaluation in conclude(output, tests, place.device).items():
                _print_figures(title, evaluation)
            console.print(f"Model: {output / 'model'}    Report: {output / 'report'}")
    if place.ranks > 1:
        torch.distributed.destroy_process_group()


@main.command()
@click.argument("model", type=DIRECTORY)
@click.argument("dataset", type=DIRECTORY)
@click.option(
    "--split",
    type=click.Choice([*SPLITS, "all"]),
    default="test",
    show_default=True,
    help="Which images are the gallery, and whose captions the queries.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="The figures are the same with any.")
@click.option("--report", "folder", type=DIRECTORY, help="Write metrics.json and examples here.")
@click.option("--through-services", "address", help="A query service to ask the same, host:port.")
@click.option("--gallery", default="default", show_default=True, help="For --through-services.")
@DEVICE
def evaluate(
    model: Path,
    dataset: Path,
    split: str,
    batch_size: int | None,
    folder: Path | None,
    address: str | None,
    gallery: str,
    device: str,
) -> None:
    """Rank-1/5/10, mAP and mINP of a model directory on a data set, each image once in the gallery.

    With --through-services also through a running stack whose gallery holds the split's images.
    """
    with _explained():
        network, card = load_model(model)
        data = read_dataset(dataset)
        if split == "all":
            data = replace(data, images=tuple(replace(i, split="test") for i in data.images))
        with TemporaryDirectory() as cache:
            embedded, evaluation = evaluate_split(
                network.to(_device(device)),
                card.vocabulary,
                data,
                split if split in SPLITS else "test",
                height=card.image_height,
                width=card.image_width,
                cache=Path(cache),
                batch_size=batch_size,
            )
        _print_figures(split, evaluation)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            report.write_metrics(folder / "metrics.json", {split: evaluation})
            report.write_retrieval_sheet(folder / f"{split}.png", data, embedded)
        if address:
            ranks = rank_through_services(embedded, query=address, gallery=gallery)
            bare = evaluation.text_to_image.as_dict()
            for k in metrics.RANKS:
                reached = 100 * (ranks <= k).double().mean().item()
                console.print(
                    f"Rank-{k:<3} {reached:6.2f} through the services, "
                    f"{reached - bare[f'rank_{k}']:+.2f} to the bare network"
                )


def _recipe(preset: str, **changes: Any) -> Recipe:
    """The preset with what the command line says; None leaves the preset's value."""
    recipe = PRESETS[preset]
    given = {key: value for key, value in changes.items() if value is not None}
    if size := given.pop("image_size", None):
        given["image_height"], given["image_width"] = size
    if tower := given.pop("image_tower", None):
        given["architecture"] = replace(recipe.architecture, image_tower=tower)
    if "tower_rate" in given:
        given["tower_rate_factor"] = given.pop("tower_rate")
    return replace(recipe, **given)


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            "--device cuda: PyTorch sees no CUDA device here; check the driver, or use --device cpu"
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _place(wanted: str, batch_size: int) -> Place:
    """Under torchrun the place among its processes, which divide each batch; else alone."""
    device, ranks = _device(wanted), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        return Place(device)
    if batch_size % ranks:
        raise click.ClickException(
            f"--batch-size {batch_size}: is no multiple of the {ranks} processes"
        )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Place(device, rank=torch.distributed.get_rank(), ranks=ranks)


@contextmanager
def _watch(dataset: Dataset, recipe: Recipe) -> Iterator[Watch]:
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
        yield Watch(step=step, epoch=epoch)


def _in_words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())


def _print_figures(title: str, evaluation: Evaluation) -> None:
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
def _explained() -> Iterator[None]:
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


if __name__ == "__main__":
    main()
