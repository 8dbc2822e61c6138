"""The command line from a data set to a measured model, as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from services.embedder.dcpl.model_directory import load_card, load_model
from services.embedder.dcpl.network import Dcpl
from training.__main__ import main
from training.evaluation.report import RIGHT
from training.recipe import PRESETS
from training.synthetic.dataset import generate

SMALL = ["--preset", "small", "--batch-size", "16", "--image-size", "32", "32", "--device", "cpu"]


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a run of two epochs, measured on an easy and a hard test, and its output."""
    hard = tmp_path_factory.mktemp("hard")
    generate(hard, images=24, seed=5, workers=1, hard=True)
    folder = tmp_path_factory.mktemp("run")
    arguments = ["--epochs", "2", "--hard", hard, "--name", "little"]
    arguments += ["--notes", "Of drawings.", "--licence", "CC0-1.0"]
    return folder, run("train", drawn, "-o", folder, *SMALL, *arguments)


def test_prepare_counts_a_sound_data_set(drawn: Path) -> None:
    result = run("prepare", drawn)
    assert result.exit_code == 0
    assert "64 images" in result.output


def test_prepare_fails_with_the_list_of_defects(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    first = json.loads((tmp_path / "reid_raw.json").read_text())[0]["file_path"]
    (tmp_path / "imgs" / first).write_bytes(b"no image")
    result = run("prepare", tmp_path)
    assert result.exit_code == 1
    assert f"{first}: not an image" in result.output
    assert "1 defects; repair them" in result.output


def test_training_prints_each_epoch_and_the_figures_of_both_tests(
    finished: tuple[Path, Result],
) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["1", "2"]
    assert "test: 8 images of 2 people" in lines
    assert "hard: 24 images of 6 people" in lines
    assert any("95 % interval" in line and "chance" in line for line in lines)
    assert f"Model: {folder / 'model'}" in result.output


def test_the_report_has_curves_examples_metrics_and_card(finished: tuple[Path, Result]) -> None:
    report = finished[0] / "report"
    assert {path.name for path in report.iterdir()} == {
        *("curves.png", "test.png", "hard.png", "metrics.json", "model.json")
    }
    figures = json.loads((report / "metrics.json").read_text())
    assert figures["test"]["text_to_image"]["queries"] == 16
    assert figures["hard"]["image_to_text"]["queries"] == 24
    for name in ("curves", "test", "hard"):
        with Image.open(report / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(set(image.convert("L").resize((50, 50)).tobytes())) > 10


def test_right_answers_are_framed_in_the_sheet(finished: tuple[Path, Result]) -> None:
    with Image.open(finished[0] / "report" / "test.png") as sheet:
        colours = {colour for _, colour in sheet.getcolors(sheet.width * sheet.height) or []}
    assert RIGHT in colours  # 4 of 8 images are of the person, so each row of ten has them


def test_the_card_carries_name_notes_licence_and_figures(finished: tuple[Path, Result]) -> None:
    card = load_card(finished[0] / "model")
    figures = json.loads((finished[0] / "report" / "metrics.json").read_text())
    assert (card.name, card.notes, card.licence) == ("little", "Of drawings.", "CC0-1.0")
    assert card.metrics["test"]["rank_1"] == pytest.approx(
        figures["test"]["text_to_image"]["rank_1"], abs=0.01
    )
    assert card.metrics["hard"]["chance_rank_1"] == pytest.approx(100 * 4 / 24, abs=0.01)


def test_evaluate_repeats_the_runs_figures_for_any_batch_size(
    finished: tuple[Path, Result], drawn: Path, tmp_path: Path
) -> None:
    folder, trained = finished
    shown = next(line for line in trained.output.splitlines() if "text to image" in line)
    for batch_size in (1, 64):
        result = run(
            *("evaluate", folder / "model", drawn, "--batch-size", batch_size),
            *("--report", tmp_path, "--device", "cpu"),
        )
        assert result.exit_code == 0, result.output
        assert shown in result.output.splitlines()
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "test.png"}


def test_evaluate_can_take_all_images_as_the_gallery(
    finished: tuple[Path, Result], drawn: Path
) -> None:
    result = run("evaluate", finished[0] / "model", drawn, "--split", "all", "--device", "cpu")
    assert "all: 80 images of 20 people" in result.output


def copy_of(drawn: Path, folder: Path, *splits: str) -> Path:
    """The data set with these splits only."""
    shutil.copytree(drawn, folder)
    entries = json.loads((folder / "reid_raw.json").read_text())
    kept = [entry for entry in entries if entry["split"] in splits]
    (folder / "reid_raw.json").write_text(json.dumps(kept))
    return folder


def test_without_a_split_val_it_is_said_that_people_were_held_out(
    drawn: Path, tmp_path: Path
) -> None:
    data = copy_of(drawn, tmp_path / "data", "train", "test")
    result = run("train", data, "-o", tmp_path / "run", *SMALL, "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "no split val: 2 people of train held out for validation" in result.output
    card = load_card(tmp_path / "run" / "model")
    assert "56 images of 14 people" in card.training_data
    assert "without 2 people, held out for validation" in card.training_data
    assert card.metrics["test"]["gallery_images"] == 8


def test_a_test_set_that_cannot_be_used_is_said_before_training(
    drawn: Path, tmp_path: Path
) -> None:
    untested = copy_of(drawn, tmp_path / "untested", "train", "val")
    broken = copy_of(drawn, tmp_path / "broken", "test")
    image = json.loads((broken / "reid_raw.json").read_text())[-1]["file_path"]
    (broken / "imgs" / image).write_bytes(b"no image")
    for arguments, complaint in (
        ((untested,), "the split test is empty"),
        ((drawn, "--hard", untested), f"{untested / 'imgs'}: the split test is empty"),
        ((drawn, "--hard", broken), f"{image}: not an image"),
    ):
        result = run("train", *arguments, "-o", tmp_path / "run", *SMALL)
        assert result.exit_code == 1
        assert complaint in result.output
        assert not (tmp_path / "run" / "history.json").exists()


def test_cuda_that_is_not_there_is_said(drawn: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = run("train", drawn, "-o", tmp_path / "run", "--device", "cuda")
    assert result.exit_code == 1
    assert "PyTorch sees no CUDA device here" in result.output
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_divide_evenly_is_said(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun --nproc-per-node 2 sets it
    result = run("train", drawn, "-o", tmp_path / "run", *SMALL, "--batch-size", "15")
    assert result.exit_code == 1
    assert "--batch-size 15: not a multiple of the 2 processes" in result.output


def test_a_folder_without_a_data_set_is_said(tmp_path: Path) -> None:
    result = run("train", tmp_path, "-o", tmp_path / "run", *SMALL)
    assert result.exit_code == 1
    assert "no data set here; looked for reid_raw.json" in result.output


def test_another_architecture_in_the_same_folder_is_refused(
    finished: tuple[Path, Result], drawn: Path
) -> None:
    result = run(
        *("train", drawn, "-o", finished[0], *SMALL, "--epochs", "2"),
        *("--image-tower", "mobilenet_v3_large"),
    )
    assert result.exit_code == 1
    assert "was made with another recipe" in result.output


def test_evaluating_something_else_than_a_model_is_said(drawn: Path) -> None:
    result = run("evaluate", drawn, drawn)
    assert result.exit_code == 1
    assert "a model directory holds weights.safetensors and model.json" in result.output


def test_a_pretrained_tower_is_where_training_starts(drawn: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = Dcpl(PRESETS["small"].architecture)
    torch.save(source.image_tower.state_dict(), tmp_path / "imagenet.pth")
    result = run(
        *("train", drawn, "-o", tmp_path / "run", *SMALL, "--epochs", "1"),
        *("--tower-weights", tmp_path / "imagenet.pth", "--tower-rate", "0"),
    )
    assert result.exit_code == 0, result.output
    trained, _ = load_model(tmp_path / "run" / "model")
    for name, weight in source.image_tower.named_parameters():
        if weight.ndim == 4:  # with a rate of 0 the filters stay, but for float16
            torch.testing.assert_close(
                trained.get_parameter(f"image_tower.{name}"), weight, atol=1e-3, rtol=1e-3
            )


def test_weights_that_do_not_fit_are_said(drawn: Path, tmp_path: Path) -> None:
    result = run(
        "train", drawn, "-o", tmp_path / "run", *SMALL, "--tower-weights", tmp_path / "gone.pth"
    )
    assert result.exit_code == 1
    assert "gone.pth: no such file" in result.output


@pytest.mark.parametrize("tower", ["mobilenet_v3_large", "resnet50", "convnext_tiny"])
def test_every_image_tower_trains(drawn: Path, tmp_path: Path, tower: str) -> None:
    result = run(
        *("train", drawn, "-o", tmp_path, "--preset", "small", "--epochs", "1", "--device", "cpu"),
        *("--batch-size", "32", "--image-size", "32", "32", "--image-tower", tower),
    )
    assert result.exit_code == 0, result.output
    _, card = load_model(tmp_path / "model")
    assert card.architecture.image_tower == tower
