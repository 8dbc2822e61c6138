"""Going on from a checkpoint: of the same run, or with the weights of another one."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.embedder.dcpl.vocabulary import Vocabulary
from training.checkpoint import UnusableCheckpoint, load_checkpoint
from training.data.datasets import Dataset, digest
from training.learner import Learner
from training.recipe import Recipe


@dataclass
class RunState:
    """Where a run stands; part of the checkpoint."""

    epochs_done: int = 0
    best_rank_1: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, recipe: Recipe) -> bool:
        # While the rate is held, a plateau is not the end: the gain of its fall is still to come.
        falls = recipe.hold * recipe.epochs if recipe.hold < 1 else 0
        stale = self.epochs_done - max(self.best_epoch, falls)
        return self.epochs_done >= recipe.epochs or 0 < recipe.patience <= stale


def identity_of(recipe: Recipe, vocabulary: Vocabulary, dataset: Dataset) -> dict[str, str]:
    """What a checkpoint must share with the run that goes on from it."""
    learnt = asdict(recipe)
    del learnt["fast"]  # the same is learnt without, and older checkpoints do not have it
    return {
        "vocabulary": json.dumps(vocabulary.to_json(), sort_keys=True),
        "recipe": json.dumps(learnt, sort_keys=True),
        "list of training images": digest(dataset.split("train")),
    }


def resume(checkpoint: Path, learner: Learner, identity: dict[str, str]) -> RunState:
    """Put the learner where the checkpoint stands. One of another identity is refused."""
    state = load_checkpoint(checkpoint)
    remedy = "use the same command and data as at the start, or another output directory"
    _refuse_another(checkpoint, state, identity, remedy)
    learner.load_state_dict(state["learner"])
    return RunState(**state["progress"])


def begin_with(checkpoint: Path, learner: Learner, identity: dict[str, str]) -> None:
    """Take the weights of another run. The recipe may be another one; another vocabulary,
    architecture or list of training images, whose people the class weights belong to, is refused.
    """
    state = load_checkpoint(checkpoint)
    needed = {part: value for part, value in identity.items() if part != "recipe"}
    _refuse_another(checkpoint, state, needed, "start from a run on the same data")
    try:
        learner.load_weights(state["learner"])
    except RuntimeError as error:
        raise UnusableCheckpoint(
            f"{checkpoint}: does not fit this architecture or data set; start from a run of the "
            f"same preset, image tower and data ({error})"
        ) from error


def _refuse_another(
    checkpoint: Path, state: dict[str, Any], identity: dict[str, str], remedy: str
) -> None:
    for part, wanted in identity.items():
        if state.get(part) != wanted:
            raise UnusableCheckpoint(f"{checkpoint}: was made with another {part}; {remedy}")
