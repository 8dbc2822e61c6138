"""passerby-model: what an operator sees of models on disk."""

import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from services.embedder.dcpl.model_directory import CARD, WEIGHTS, ModelCard, load_card, save_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from services.embedder.model_cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    vocabulary = Vocabulary.build(["a man in red"])
    architecture = Architecture("mobilenet_v1", len(vocabulary), 6, 5, 7)
    card = ModelCard(
        name="small",
        training_data="drawings",
        metrics={"rank_1": 12.5, "hard": {"rank_1": 3.5, "queries": 8}},
        architecture=architecture,
        image_height=64,
        image_width=32,
        vocabulary=vocabulary,
    )
    save_model(tmp_path / "models" / "small", Dcpl(architecture), card)
    return tmp_path / "models" / "small"


def reference_files(folder: Path) -> tuple[Path, Path]:
    """A checkpoint in the reference's layout, made by renaming one of our networks' weights."""
    ours = Dcpl(Architecture("mobilenet_v1", 3, 6, 5, 7)).state_dict()
    theirs = {}
    for name, weight in ours.items():
        if "bias_" in name:
            continue
        key = (
            name.replace("image_tower.", "image_model.model.")
            .replace("caption_tower.embedding", "bilstm.embed")
            .replace("caption_tower.first", "bilstm.bilstm.0")
            .replace("caption_tower.second", "bilstm.bilstm.1")
            .replace("image_projection", "conv_images")
            .replace("caption_projection", "conv_text")
        )
        theirs[f"module.{key}"] = (
            weight[..., None, None] if key in ("conv_images.weight", "conv_text.weight") else weight
        )
    torch.save({"network": theirs, "epoch": 3}, folder / "3.pth.tar")
    (folder / "words.pkl").write_bytes(pickle.dumps({"the": 0, "man": 1}))
    return folder / "3.pth.tar", folder / "words.pkl"


def test_a_checkpoint_is_imported_shown_listed_and_verified(tmp_path: Path) -> None:
    target = tmp_path / "models" / "imported"
    done = run("import", *reference_files(tmp_path), "-o", target)
    assert done.exit_code == 0, done.output
    version = load_card(target).version
    assert done.output == f"{target}: imported, version {version}\n"
    shown = run("show", target).output
    assert "Imported from 3.pth.tar (network, epoch 3)" in shown
    assert "224 x 224" in shown
    listed = run("list", tmp_path / "models").output
    assert listed.startswith(f"{target}  imported  {version}  mobilenet_v1  224x224  7-d")
    assert run("verify", target).exit_code == 0


def test_a_missing_variant_is_refused(tmp_path: Path) -> None:
    refused = run(
        "import", *reference_files(tmp_path), "-o", tmp_path / "m", "--variant", "network_ema"
    )
    assert refused.exit_code == 1
    assert "no 'network_ema' in it, but network, epoch" in refused.output


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused = run("import", tmp_path / "none.pth", tmp_path / "none.pkl", "-o", tmp_path / "m")
    assert refused.exit_code == 1
    assert "none.pkl: No such file or directory" in refused.output


def test_show_prints_the_card(model: Path) -> None:
    shown = run("show", model)
    assert shown.exit_code == 0
    for expected in ("small", load_card(model).version, "drawings", "12.5", "4 words"):
        assert expected in shown.output
    assert "rank_1 3.5, queries 8" in shown.output


def test_verify_finds_a_flipped_bit(model: Path) -> None:
    assert run("verify", model).exit_code == 0
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (model / WEIGHTS).write_bytes(content)
    refused = run("verify", model)
    assert refused.exit_code == 1
    assert f"{WEIGHTS}: is not the file that {CARD} describes" in refused.output


def test_list_goes_on_after_an_unusable_model(model: Path) -> None:
    broken = model.parent / "broken"
    broken.mkdir()
    (broken / CARD).write_text("{}")
    listed = run("list", model.parent)
    assert listed.exit_code == 0
    first, second = listed.output.splitlines()
    assert first.startswith(f"{broken}  unusable: ")
    assert second.startswith(f"{model}  small")


def test_a_list_without_models_says_how_to_get_one(tmp_path: Path) -> None:
    refused = run("list", tmp_path)
    assert refused.exit_code == 1
    assert "no model below it; `passerby-model import` makes one" in refused.output


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = run("import", *reference_files(tmp_path), "-o", tmp_path / "file" / "model")
    assert refused.exit_code == 1
    assert f"Error: [Errno 20] Not a directory: '{tmp_path / 'file' / 'model'}'" in refused.output
