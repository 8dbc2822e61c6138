"""The command passerby-model: import, show, list and verify model directories."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click

from services.embedder.dcpl.model_directory import (
    CARD,
    InvalidModel,
    ModelCard,
    load_card,
    load_model,
)
from services.embedder.dcpl.reference_checkpoint import Variant, import_reference

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Models on disk: a directory with weights.safetensors and model.json each."""


@main.command("import")
@click.argument("checkpoint", type=FILE)
@click.argument("vocabulary", type=FILE)
@click.option("-o", "--output", type=DIRECTORY, required=True, help="The model directory to write.")
@click.option("--name", help="What the model is called; the output directory's name if left out.")
@click.option(
    "--variant",
    type=click.Choice(get_args(Variant)),
    default="auto",
    show_default=True,
    help="Which network of the checkpoint; auto: network_ema if it is there.",
)
def import_command(
    checkpoint: Path, vocabulary: Path, output: Path, name: str | None, variant: Variant
) -> None:
    """Turn a checkpoint of the DCPL reference implementation, and its pickled vocabulary, into a
    model directory."""
    with _explained():
        card = import_reference(
            checkpoint, vocabulary, output, name=name or output.resolve().name, variant=variant
        )
    click.echo(f"{output}: {card.name}, version {card.version}")


@main.command()
@click.argument("directory", type=DIRECTORY)
def show(directory: Path) -> None:
    """Print the card of a model."""
    with _explained():
        card = load_card(directory)
    for title, value in _rows(card):
        click.echo(f"{title:<14}{value}")


@main.command("list")
@click.argument("root", type=DIRECTORY)
def list_command(root: Path) -> None:
    """List the models below a directory, one line each."""
    directories = sorted(path.parent for path in root.rglob(CARD))
    if not directories:
        raise click.ClickException(f"{root}: no model below it; `passerby-model import` makes one")
    for directory in directories:
        try:
            card = load_card(directory)
        except InvalidModel as error:
            click.echo(f"{directory}  unusable: {error}")
            continue
        click.echo(
            f"{directory}  {card.name}  {card.version}  {card.architecture.image_tower}  "
            f"{card.image_height}x{card.image_width}  {card.architecture.dimension}-d"
        )


@main.command()
@click.argument("directory", type=DIRECTORY)
def verify(directory: Path) -> None:
    """Check that the weights are those that the card describes, and that they load."""
    with _explained():
        _, card = load_model(directory)
    click.echo(f"{directory}: {card.name}, version {card.version}: as recorded, and loads")


@contextmanager
def _explained() -> Iterator[None]:
    """What is wrong with the files becomes the command's message, with exit code 1."""
    try:
        yield
    except (InvalidModel, OSError) as error:
        raise click.ClickException(str(error)) from error


def _rows(card: ModelCard) -> list[tuple[str, object]]:
    architecture = card.architecture
    return [
        ("name", card.name),
        ("version", card.version),
        ("image tower", architecture.image_tower),
        ("recurrence", architecture.recurrence),
        ("dimension", architecture.dimension),
        ("image size", f"{card.image_height} x {card.image_width} (height x width)"),
        ("vocabulary", f"{len(card.vocabulary.words)} words"),
        ("trained on", card.training_data),
        *((f"  {name}", _figures(value)) for name, value in card.metrics.items()),
        ("licence", card.licence or "not stated"),
        *([("notes", card.notes)] if card.notes else []),
    ]


def _figures(value: object) -> object:
    """A metric as the card has it; several together as "rank_1 50.33, rank_5 79.08"."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {figure}" for name, figure in value.items())
    return value


if __name__ == "__main__":
    main()
