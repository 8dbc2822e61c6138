"""Command line of the laboratory: prepare, train, evaluate, ablation."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from services.embedder.dcpl.model_directory import load_model
from services.embedder.dcpl.network import IMAGE_TOWERS, Dcpl
from training.ablation import ablation
from training.data import prepare as preparation
from training.data.datasets import SPLITS, Dataset, read_dataset, with_validation
from training.display import console, explained, print_figures, progress_bar
from training.distributed import DistributedContext, join, leave, world_size
from training.evaluation import metrics, report
from training.evaluation.deployed import evaluate_deployed
from training.evaluation.evaluate import EmbeddedSplit, Evaluation, evaluate_split
from training.finalise import check_tests, finalise_run
from training.pretrained import load_image_tower
from training.recipe import PRESETS, Recipe
from training.train import Callbacks, train

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


@click.group()
def main() -> None:
    """From a captioned pedestrian data set to a model directory, and what the model reaches."""


main.add_command(ablation)


@main.command()
@click.argument("dataset", type=DIRECTORY)
def prepare(dataset: Path) -> None:
    """Check every image and caption of a data set; exit code 1 if there is something to repair."""
    with explained():
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
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="recommended", show_default=True
)
@click.option("--name", help="What the model is called; the preset's name if left out.")
@click.option("--notes", default="", help="What users of the model should know; for its card.")
@click.option(
    "--licence", default="", help="Licence of the weights, for example Apache-2.0; for the card."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Overrides the preset.")
@click.option("--batch-size", type=click.IntRange(min=2), help="Of all processes together.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Overrides the preset.",
)
@click.option("--image-size", type=click.IntRange(32, 1024), nargs=2, help="HEIGHT WIDTH")
@click.option("--image-tower", type=click.Choice(IMAGE_TOWERS), help="Overrides the preset.")
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
@click.option("--seed", type=int, help="Of everything random; overrides the preset.")
@click.option(
    "--fast/--plain",
    default=None,
    help="--plain keeps PyTorch's own modules, without the faster ones of training/fast.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads for PyTorch.")
@HARD
@DEVICE
def train_command(
    dataset: Path,
    output: Path,
    preset: str,
    name: str | None,
    tower_weights: str | None,
    start_from: Path | None,
    hard: Path | None,
    device: str,
    threads: int | None,
    notes: str,
    licence: str,
    **changes: Any,
) -> None:
    """Train a model on a data set's split train, choose the epoch by val, measure it on test.

    Where there is no val, 5 % of the people of train are held out as one; --seed says which.

    OUTPUT gets model/, report/, tensorboard/ and checkpoint.pt. The same command again goes on
    where the checkpoint stands. On several GPUs: torchrun --nproc-per-node N -m training train ...
    """
    if threads:
        torch.set_num_threads(threads)
    recipe = _recipe(preset, **changes)
    with explained():
        context = _join(device, recipe.batch_size)
        data = with_validation(read_dataset(dataset), recipe.seed)
        tests = {"test": data} | ({"hard": read_dataset(hard)} if hard else {})
        if context.is_first:
            _check(output, data, tests, recipe)
        bar = progress_bar(data, recipe) if context.is_first else nullcontext(Callbacks())
        with bar as callbacks:
            train(
                data,
                recipe,
                output,
                name=name or preset,
                notes=notes,
                licence=licence,
                context=context,
                start=start_from,
                prepare_network=_pretrained(tower_weights),
                callbacks=callbacks,
            )
        if context.is_first:
            _measure(output, tests, context.device)
    leave(context)


def _pretrained(weights: str | None) -> Callable[[Dcpl], None]:
    return lambda network: load_image_tower(network, weights) if weights else None


def _check(output: Path, data: Dataset, tests: dict[str, Dataset], recipe: Recipe) -> None:
    """Before the first epoch: what would stop the run after its last one."""
    check_tests(output, tests, recipe)
    if data.held_out:
        people = len({image.identity for image in data.split("val")})
        console.print(f"no split val: {people:,} people of train held out for validation")


def _measure(output: Path, tests: dict[str, Dataset], device: torch.device) -> None:
    for title, evaluation in finalise_run(output, tests, device).items():
        print_figures(title, evaluation)
    console.print(f"Model: {output / 'model'}    Report: {output / 'report'}")


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
@click.option("--batch-size", type=click.IntRange(min=1), help="Does not change the results.")
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
    with explained():
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
        print_figures(split, evaluation)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            report.write_metrics(folder / "metrics.json", {split: evaluation})
            report.write_retrieval_sheet(folder / f"{split}.png", data, embedded)
        if address:
            _compare(evaluation, embedded, query=address, gallery=gallery)


def _compare(bare: Evaluation, embedded: EmbeddedSplit, *, query: str, gallery: str) -> None:
    """Print what a running stack reaches beside the network without an index."""
    ranks = evaluate_deployed(embedded, query=query, gallery=gallery)
    expected = bare.text_to_image.as_dict()
    for k in metrics.RANKS:
        reached = 100 * (ranks <= k).double().mean().item()
        console.print(
            f"Rank-{k:<3} {reached:6.2f} through the services, "
            f"{reached - expected[f'rank_{k}']:+.2f} compared with the network alone"
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


def _join(wanted: str, batch_size: int) -> DistributedContext:
    """Under torchrun the processes divide each batch."""
    device = _device(wanted)
    if batch_size % world_size():
        raise click.ClickException(
            f"--batch-size {batch_size}: not a multiple of the {world_size()} processes"
        )
    return join(device)


if __name__ == "__main__":
    main()
