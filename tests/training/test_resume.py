"""A run that was cut off goes on as if it had not been; one that does not fit is refused."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from services.embedder.dcpl.model_directory import load_model
from services.embedder.dcpl.network import Dcpl
from training.__main__ import main
from training.checkpoint import UnusableCheckpoint, load_checkpoint
from training.data.datasets import Dataset, InvalidDataset
from training.distributed import DistributedContext
from training.learner import Learner, TrainingDiverged
from training.recipe import Augmentation, Recipe
from training.resume import RunState
from training.run import Epoch, read_history
from training.train import Callbacks, train


class Interrupted(Exception):
    pass


def losses_of(directory: Path) -> list[dict[str, float]]:
    return [row["losses"] for row in read_history(directory)]


def turned(dataset: Dataset) -> Dataset:
    """The same images in another order: the same vocabulary, and as many people."""
    return replace(dataset, images=dataset.images[::-1])


def with_two_people_as_one(dataset: Dataset) -> Dataset:
    """The same captions, and a person less."""
    first, second = sorted({image.identity for image in dataset.split("train")})[:2]
    images = (replace(i, identity=first) if i.identity == second else i for i in dataset.images)
    return replace(dataset, images=tuple(images))


def interrupt_at(step: int) -> Callbacks:
    """Raises in the middle of the run, after so many steps."""
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        if done == step:
            raise Interrupted

    return Callbacks(step=count)


def test_a_resumed_run_has_the_losses_and_weights_of_an_uninterrupted_one(
    dataset: Dataset, tiny: Recipe, context: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=3, word_dropout=0.1)
    train(dataset, recipe, tmp_path / "whole", name="m", context=context)
    with pytest.raises(Interrupted):  # 4 steps an epoch: in the middle of the second
        train(
            dataset, recipe, tmp_path / "cut", name="m", context=context, callbacks=interrupt_at(6)
        )
    torch.manual_seed(99)  # what a new process would have
    train(dataset, recipe, tmp_path / "cut", name="m", context=context)
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    whole = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")["learner"]["objective"]
    cut = load_checkpoint(tmp_path / "cut" / "checkpoint.pt")["learner"]["objective"]
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_finished_run_is_not_trained_again(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path, name="m", context=cpu)
    train(dataset, recipe, tmp_path, name="m", context=cpu, callbacks=interrupt_at(1))
    assert len(read_history(tmp_path)) == 1


def test_a_killed_command_goes_on_from_its_last_checkpoint(drawn: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "training", "train", str(drawn)),
        *("-o", str(tmp_path), "--preset", "small", "--epochs", "3", "--batch-size", "16"),
        *("--image-size", "32", "32", "--device", "cpu", "--threads", "1"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoint.pt").exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
    before = len(load_checkpoint(tmp_path / "checkpoint.pt")["progress"]["history"])
    assert 1 <= before < 3
    done = CliRunner().invoke(main, command[3:])
    assert done.exit_code == 0, done.output
    printed = [line.split()[1] for line in done.output.splitlines() if line.startswith("epoch")]
    assert printed == [str(number) for number in range(before + 1, 4)]
    assert [row["number"] for row in read_history(tmp_path)] == [1, 2, 3]


def test_another_recipe_is_refused(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    train(dataset, replace(tiny, epochs=1), tmp_path, name="m", context=cpu)
    slower = replace(tiny, epochs=1, learning_rate=1e-5)
    with pytest.raises(UnusableCheckpoint, match="was made with another recipe; use the same"):
        train(dataset, slower, tmp_path, name="m", context=cpu)
    wider = replace(tiny.architecture, hidden=10)
    with pytest.raises(UnusableCheckpoint, match="another recipe"):
        train(dataset, replace(tiny, epochs=1, architecture=wider), tmp_path, name="m", context=cpu)


def test_a_run_may_go_on_without_the_fast_modules(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    train(dataset, replace(tiny, epochs=2, fast=True), tmp_path, name="m", context=cpu)
    plain = replace(tiny, epochs=2, fast=False)
    train(dataset, plain, tmp_path, name="m", context=cpu)
    assert len(read_history(tmp_path)) == 2


def test_another_vocabulary_is_refused(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path, name="m", context=cpu)
    renamed = tuple(
        replace(image, captions=tuple(c.replace("wearing", "in") for c in image.captions))
        for image in dataset.images
    )
    with pytest.raises(UnusableCheckpoint, match="was made with another vocabulary"):
        train(replace(dataset, images=renamed), recipe, tmp_path, name="m", context=cpu)


@pytest.mark.parametrize("change", [turned, with_two_people_as_one])
def test_other_training_images_are_refused(
    dataset: Dataset,
    tiny: Recipe,
    cpu: DistributedContext,
    tmp_path: Path,
    change: Callable[[Dataset], Dataset],
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path / "run", name="m", context=cpu)
    complaint = "was made with another list of training images; "
    with pytest.raises(UnusableCheckpoint, match=f"{complaint}use the same command and data"):
        train(change(dataset), recipe, tmp_path / "run", name="m", context=cpu)
    with pytest.raises(UnusableCheckpoint, match=f"{complaint}start from a run on the same data"):
        train(
            change(dataset), recipe, tmp_path / "b", name="m", context=cpu, start=tmp_path / "run"
        )


def test_other_images_for_validation_and_test_are_not_refused(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path, name="m", context=cpu)
    fewer = (*dataset.split("train"), *dataset.split("val")[:4])
    train(replace(dataset, images=fewer), recipe, tmp_path, name="m", context=cpu)


def test_a_validation_image_that_cannot_be_read_is_found_before_training(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    gone = replace(dataset.split("val")[0], file="gone.jpg")
    broken = replace(dataset, images=(*dataset.images, gone))
    with pytest.raises(InvalidDataset, match=r"gone\.jpg"):
        train(broken, tiny, tmp_path, name="m", context=cpu, callbacks=interrupt_at(1))


def test_a_diverging_run_keeps_the_last_good_checkpoint_and_model(
    dataset: Dataset,
    tiny: Recipe,
    context: DistributedContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners: list[Learner] = []
    initialise = Learner.__init__

    def remember(self: Learner, *arguments: object) -> None:
        initialise(self, *arguments)  # type: ignore[arg-type]
        learners.append(self)

    monkeypatch.setattr(Learner, "__init__", remember)

    def spoil(_: Epoch) -> None:
        with torch.no_grad():
            learners[0].objective.network.image_projection.weight.fill_(float("inf"))

    with pytest.raises(TrainingDiverged, match=r"at step 5 .*learning rate"):
        train(dataset, tiny, tmp_path, name="m", context=context, callbacks=Callbacks(epoch=spoil))
    kept = load_checkpoint(tmp_path / "checkpoint.pt")
    assert kept["progress"]["epochs_done"] == 1
    assert all(w.isfinite().all() for w in kept["learner"]["objective"].values())
    load_model(tmp_path / "model")


def test_training_stops_early_when_validation_does_not_improve(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    standing = replace(tiny, epochs=20, patience=2, learning_rate=1e-12, ema_decay=0.0)
    frozen_statistics = replace(standing, warmup_epochs=0, hold=1.0)
    train(dataset, frozen_statistics, tmp_path, name="m", context=cpu)
    history = read_history(tmp_path)
    assert len(history) < 20
    best = max(row["validation"]["rank_1"] for row in history)
    first_best = next(r["number"] for r in history if r["validation"]["rank_1"] == best)
    assert len(history) == first_best + 2
    _, card = load_model(tmp_path / "model")
    assert card.metrics["epoch"] == first_best


def test_a_plateau_before_the_rate_falls_does_not_stop_the_run(tiny: Recipe) -> None:
    recipe = replace(tiny, epochs=20, patience=2, hold=0.5)
    assert not RunState(epochs_done=11, best_epoch=3).is_over(recipe)
    assert RunState(epochs_done=12, best_epoch=3).is_over(recipe)
    assert not RunState(epochs_done=14, best_epoch=13).is_over(recipe)
    assert RunState(epochs_done=15, best_epoch=13).is_over(recipe)
    assert RunState(epochs_done=5, best_epoch=3).is_over(replace(recipe, hold=1.0))


def test_the_model_directory_explains_itself(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path, name="little", notes="drawings", context=cpu)
    network, card = load_model(tmp_path / "model")
    assert isinstance(network, Dcpl)
    assert (card.name, card.notes) == ("little", "drawings")
    assert "64 images of 16 people" in card.training_data
    assert (card.image_height, card.image_width) == (32, 32)
    (row,) = read_history(tmp_path)
    assert card.metrics["validation"] == pytest.approx(row["validation"], abs=0.01)
    assert any((tmp_path / "tensorboard").iterdir())


def test_a_run_can_begin_with_the_weights_of_another(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(dataset, recipe, tmp_path / "small", name="m", context=cpu)
    still = replace(
        recipe, learning_rate=1e-12, warmup_epochs=0, image_height=64, augmentation=Augmentation()
    )
    start = tmp_path / "small"
    train(dataset, still, tmp_path / "large", name="m", context=cpu, start=start)
    small, large = (
        load_checkpoint(tmp_path / run / "checkpoint.pt")["learner"]["objective"]
        for run in ("small", "large")
    )
    for name, weight in small.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(large[name], weight, msg=name)


def test_beginning_with_weights_that_do_not_fit_is_refused(
    dataset: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe, start = replace(tiny, epochs=1), tmp_path / "start"
    train(dataset, recipe, start, name="m", context=cpu)
    wider = replace(recipe, architecture=replace(tiny.architecture, hidden=10))
    with pytest.raises(UnusableCheckpoint, match="does not fit this architecture or data set"):
        train(dataset, wider, tmp_path / "a", name="m", context=cpu, start=start)
    fewer_words = replace(recipe, minimum_word_count=3)
    with pytest.raises(UnusableCheckpoint, match="was made with another vocabulary; start from"):
        train(dataset, fewer_words, tmp_path / "b", name="m", context=cpu, start=start)
    with pytest.raises(UnusableCheckpoint, match="no such file; name the folder of a run"):
        train(dataset, recipe, tmp_path / "c", name="m", context=cpu, start=tmp_path / "gone")
