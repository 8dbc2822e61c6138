"""The end of a run: its best weights, measured on test splits, for the card and the report."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from services.embedder.dcpl.model_directory import CARD, load_model, save_model
from training.data.datasets import Dataset
from training.evaluation import report
from training.evaluation.evaluate import Evaluation, decoded_split, evaluate_split
from training.recipe import Recipe
from training.run import SAVED_AS, read_history


def check_tests(run: Path, tests: Mapping[str, Dataset], recipe: Recipe) -> None:
    """Before a run: find what would stop `finalise_run` after it; the decoded images stay for that.

    Raises InvalidDataset.
    """
    for dataset in tests.values():
        decoded_split(
            dataset,
            "test",
            height=recipe.image_height,
            width=recipe.image_width,
            cache=run / "pixels",
        )


def finalise_run(
    run: Path, tests: Mapping[str, Dataset], device: torch.device
) -> dict[str, Evaluation]:
    """Measure the model of a finished run on the test split of each data set.

    tests: data sets by the name that their figures get. Completes the
    card in run/model and writes run/report. Raises InvalidModel and InvalidDataset.
    """
    network, card = load_model(run / "model")
    network.to(device)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    evaluations = {}
    for name, dataset in tests.items():
        embedded, evaluations[name] = evaluate_split(
            network,
            card.vocabulary,
            dataset,
            "test",
            height=card.image_height,
            width=card.image_width,
            cache=run / "pixels",
        )
        report.write_retrieval_sheet(folder / f"{name}.png", dataset, embedded)
    figures = {name: summary(evaluation) for name, evaluation in evaluations.items()}
    card = replace(card, metrics=card.metrics | figures)
    save_model(run / "model", network, card, precision=SAVED_AS)
    report.write_metrics(folder / "metrics.json", evaluations)
    report.write_curves(folder / "curves.png", read_history(run))
    shutil.copy(run / "model" / CARD, folder / CARD)
    return evaluations


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The figures that a model card carries, text to image, in percent."""
    found = {name: round(value, 2) for name, value in evaluation.text_to_image.as_dict().items()}
    interval = evaluation.text_to_image_interval["rank_1"]
    return found | {
        "rank_1_95_percent_interval": [round(interval.low, 2), round(interval.high, 2)],
        "chance_rank_1": round(evaluation.chance_rank_1, 2),
        "chance_rank_10": round(evaluation.chance_rank_10, 2),
        "gallery_images": evaluation.gallery_images,
        "identities": evaluation.identities,
    }
