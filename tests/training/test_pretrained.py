"""ImageNet weights from a file fill the image tower, or the reason why not is said."""

import os
from pathlib import Path

import pytest
import torch
from torchvision import models

from services.embedder.dcpl.network import Architecture, Dcpl
from training.pretrained import UnusableWeights, load_image_tower


def network_of(image_tower: str) -> Dcpl:
    return Dcpl(
        Architecture(
            image_tower=image_tower, vocabulary_size=5, word_dimension=4, hidden=4, dimension=8
        )
    )


@pytest.mark.parametrize(
    ("tower", "classifier"),
    [("mobilenet_v3_large", "classifier.3"), ("resnet50", "fc"), ("convnext_tiny", "classifier.2")],
)
def test_torchvisions_files_fit_its_towers(tmp_path: Path, tower: str, classifier: str) -> None:
    original = models.get_model(tower)
    assert f"{classifier}.weight" in original.state_dict()
    torch.save(original.state_dict(), tmp_path / "imagenet.pth")
    network = network_of(tower)
    load_image_tower(network, str(tmp_path / "imagenet.pth"))
    filled = network.image_tower.state_dict()
    assert all(torch.equal(filled[key], original.state_dict()[key]) for key in filled)


def test_the_reference_mobilenet_file_fits_mobilenet_v1(tmp_path: Path) -> None:
    source, network = network_of("mobilenet_v1"), network_of("mobilenet_v1")
    theirs = {
        f"module.model.{key}": weight
        for key, weight in source.image_tower.state_dict().items()
        if not key.endswith("num_batches_tracked")  # files of its time have none
    }
    theirs |= {"module.fc.weight": torch.zeros(1000, 1024), "module.fc.bias": torch.zeros(1000)}
    content = {"epoch": 60, "arch": "mobilenet", "state_dict": theirs, "best_prec1": 70.0}
    torch.save(content, tmp_path / "mobilenet.pth.tar")
    load_image_tower(network, str(tmp_path / "mobilenet.pth.tar"))
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        expected = source.eval().image_tower(image)
        assert torch.equal(network.eval().image_tower(image), expected)


def test_weights_of_another_tower_are_refused(tmp_path: Path) -> None:
    torch.save(network_of("mobilenet_v1").image_tower.state_dict(), tmp_path / "mobilenet.pth")
    with pytest.raises(UnusableWeights, match="does not fit resnet50: 265 of 318 tensors"):
        load_image_tower(network_of("resnet50"), str(tmp_path / "mobilenet.pth"))


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_file_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Malicious()}, "weights.pth")
    with pytest.raises(UnusableWeights, match="nothing in it was run"):
        load_image_tower(network_of("mobilenet_v1"), "weights.pth")
    assert not Path("harmed").exists()


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnusableWeights, match=r"gone\.pth: no such file"):
        load_image_tower(network_of("mobilenet_v1"), str(tmp_path / "gone.pth"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UnusableWeights, match="holds no state dict"):
        load_image_tower(network_of("mobilenet_v1"), str(tmp_path / "list.pth"))


def test_torchvision_has_no_mobilenet_v1() -> None:
    with pytest.raises(UnusableWeights, match="torchvision has no MobileNetV1; name a file"):
        load_image_tower(network_of("mobilenet_v1"), "torchvision")
