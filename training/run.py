"""A run's directory: what each epoch leaves there, and what the next process begins with.

It holds checkpoint.pt (all that is needed to go on), history.json (a row for each epoch), model/
(the best epoch's weights), tensorboard/ and pixels/ (the decoded images).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from services.embedder.dcpl.model_directory import ModelCard, Precision, save_model
from services.embedder.dcpl.vocabulary import Vocabulary
from training.checkpoint import save_checkpoint
from training.data.datasets import Dataset
from training.evaluation.evaluate import evaluate_split
from training.learner import Learner
from training.recipe import Recipe
from training.resume import RunState, begin_with, identity_of, resume

HISTORY = "history.json"
SAVED_AS: Precision = "float16"
"""Of the model, not of the checkpoint; half the file, and the figures are those of the file."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history. The validation figures are those of the averaged weights."""

    number: int
    losses: dict[str, float]
    images_per_second: float
    validation: dict[str, float]


@dataclass(frozen=True)
class Run:
    """One training run on disk; name, notes and licence are for the model's card."""

    directory: Path
    dataset: Dataset
    recipe: Recipe
    vocabulary: Vocabulary
    name: str
    notes: str
    licence: str

    @property
    def model(self) -> Path:
        return self.directory / "model"

    @property
    def pixels(self) -> Path:
        return self.directory / "pixels"

    @property
    def _checkpoint(self) -> Path:
        return self.directory / "checkpoint.pt"

    @property
    def _identity(self) -> dict[str, str]:
        return identity_of(self.recipe, self.vocabulary, self.dataset)

    def begin(self, learner: Learner, start: Path | None) -> RunState:
        """Put the learner where the checkpoint stands; without one, on the weights of the run in
        `start`, or leave it as it is. Raises UnusableCheckpoint.
        """
        if self._checkpoint.exists():
            return resume(self._checkpoint, learner, self._identity)
        if start is not None:
            begin_with(start / "checkpoint.pt", learner, self._identity)
        return RunState()

    def finish_epoch(
        self, learner: Learner, state: RunState, losses: dict[str, float], images_per_second: float
    ) -> Epoch:
        """Validate, keep the model if it is the best so far, and write history and checkpoint.

        losses: their means over the epoch. `state` is brought up to date.
        """
        _, evaluation = evaluate_split(
            learner.model,
            self.vocabulary,
            self.dataset,
            "val",
            height=self.recipe.image_height,
            width=self.recipe.image_width,
            cache=self.pixels,
        )
        reached = evaluation.text_to_image
        epoch = Epoch(state.epochs_done, losses, images_per_second, reached.as_dict())
        state.history.append(asdict(epoch))
        if reached.rank_1 > state.best_rank_1:
            state.best_rank_1, state.best_epoch = reached.rank_1, epoch.number
            save_model(self.model, learner.model, self._card(epoch), precision=SAVED_AS)
        self._record(epoch, state.history)
        progress = {"progress": asdict(state), "learner": learner.state_dict()}
        save_checkpoint(self._checkpoint, progress | self._identity)
        return epoch

    def _card(self, epoch: Epoch) -> ModelCard:
        images = self.dataset.split("train")
        identities = len({image.identity for image in images})
        training_data = (
            f"{len(images):,} images of {identities:,} people, the split train of "
            f"{self.dataset.image_root.resolve().parent.name} (layout: {self.dataset.name})"
        )
        if self.dataset.held_out:
            people = len({image.identity for image in self.dataset.split("val")})
            training_data += f" without {people:,} people, held out for validation"
        return ModelCard(
            name=self.name,
            training_data=training_data,
            notes=self.notes,
            licence=self.licence,
            metrics={
                "epoch": epoch.number,
                "validation": {name: round(value, 2) for name, value in epoch.validation.items()},
            },
            architecture=self.recipe.architecture,
            image_height=self.recipe.image_height,
            image_width=self.recipe.image_width,
            vocabulary=self.vocabulary,
        )

    def _record(self, epoch: Epoch, history: list[dict[str, Any]]) -> None:
        (self.directory / HISTORY).write_text(json.dumps(history, indent=1) + "\n")
        with SummaryWriter(self.directory / "tensorboard") as board:
            for name, loss in epoch.losses.items():
                board.add_scalar(f"train/{name}", loss, epoch.number)
            for name, figure in epoch.validation.items():
                board.add_scalar(f"validation/{name}", figure, epoch.number)
            board.add_scalar("images_per_second", epoch.images_per_second, epoch.number)


def read_history(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's epochs, each an Epoch as a dict."""
    rows: list[dict[str, Any]] = json.loads((directory / HISTORY).read_text())
    return rows
