"""The report of a run: metrics as JSON, curves and a sheet of retrieval examples as PNG."""

import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from training.data.datasets import Dataset
from training.evaluation.evaluate import EmbeddedSplit, Evaluation
from training.evaluation.metrics import pessimistic_order

QUERIES, ANSWERS = 10, 10
TILE_WIDTH, TILE_HEIGHT, FRAME, LINE = 80, 160, 4, 20
RIGHT, WRONG, INK, BACKGROUND = (30, 150, 70), (205, 205, 205), (20, 20, 20), (255, 255, 255)


def write_metrics(path: Path, evaluations: dict[str, Evaluation]) -> None:
    """evaluations: by what was measured, such as "test"."""
    figures = {name: evaluation.as_dict() for name, evaluation in evaluations.items()}
    path.write_text(json.dumps(figures, indent=1) + "\n")


def write_curves(path: Path, history: list[dict[str, Any]]) -> None:
    """Losses and validation figures over the epochs; `history` as in history.json."""
    epochs = [row["number"] for row in history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, ranks = figure.subplots(1, 2)
    for name in history[0]["losses"]:
        losses.plot(epochs, [row["losses"][name] for row in history], label=name)
    losses.set(title="Training losses", xlabel="epoch", yscale="log")
    for name in ("rank_1", "rank_10", "mean_average_precision"):
        ranks.plot(epochs, [row["validation"][name] for row in history], label=name)
    ranks.set(title="Validation, text to image", xlabel="epoch", ylabel="percent")
    for axes in (losses, ranks):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def write_retrieval_sheet(
    path: Path, dataset: Dataset, embedded: EmbeddedSplit, *, seed: int = 0
) -> None:
    """Ten random captions of the split, each above its first ten images; right ones are framed."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randperm(len(embedded.captions), generator=generator)[:QUERIES]
    scores = embedded.caption_vectors[queries] @ embedded.image_vectors.T
    right = embedded.caption_identities[queries, None] == embedded.image_identities
    order = pessimistic_order(scores, right)[:, :ANSWERS]
    row_height = TILE_HEIGHT + 2 * FRAME + 2 * LINE
    tile = TILE_WIDTH + 2 * FRAME
    sheet = Image.new("RGB", (ANSWERS * tile, len(queries) * row_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for row, query in enumerate(queries.tolist()):
        top = row * row_height
        text = _wrapped(draw, embedded.captions[query], font, sheet.width - 8)
        draw.multiline_text((4, top), text, fill=INK, font=font, spacing=2)
        for column, entry in enumerate(order[row].tolist()):
            x, y = column * tile, top + 2 * LINE
            colour = RIGHT if right[row, entry] else WRONG
            draw.rectangle((x, y, x + tile - 1, y + TILE_HEIGHT + 2 * FRAME - 1), fill=colour)
            with Image.open(dataset.image_root / embedded.images[entry].file) as image:
                shown = image.convert("RGB").resize((TILE_WIDTH, TILE_HEIGHT))
            sheet.paste(shown, (x + FRAME, y + FRAME))
    sheet.save(path)


def _wrapped(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> str:
    """At most two lines; what does not fit is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font) <= width:
            lines[-1] = longer
        elif len(lines) == 2:
            lines[-1] += " …"
            break
        else:
            lines.append(word)
    return "\n".join(lines)
