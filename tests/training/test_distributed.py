"""Two processes learn what one learns from the whole batch: negatives are gathered."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from services.embedder.dcpl.network import Architecture, Dcpl
from tests.support.processes import free_port
from training.data.batches import Batch
from training.distributed import DistributedContext
from training.evaluation.evaluate import precise_cudnn
from training.learner import Learner
from training.recipe import Augmentation, Recipe

ONE_OF_SEVERAL = """
import sys, torch
from pathlib import Path
from tests.training.test_distributed import DistributedContext, gradients
backend, folder = sys.argv[1:]
torch.distributed.init_process_group(backend)
torch.set_num_threads(1)
rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
device = torch.device("cpu")
if backend == "nccl":
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
torch.save(gradients(DistributedContext(device, rank, world_size)), Path(folder) / f"{rank}.pt")
torch.distributed.destroy_process_group()
"""


class Statistics(torch.nn.BatchNorm2d):
    """Uses its running statistics in training too: those of half a batch are others than those
    of the whole, which would hide whether losses and gradients agree."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.batch_norm(
            images, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def gradients(context: DistributedContext) -> dict[str, torch.Tensor]:
    """Losses and gradients of one step on the same eight pairs, of which this process has its
    share."""
    recipe = Recipe(
        architecture=Architecture(vocabulary_size=20, word_dimension=8, hidden=8, dimension=16),
        augmentation=Augmentation(flip=False),
        precision="float32",
        learning_rate=1e-9,
        batch_size=8,
    )
    torch.manual_seed(0)
    network = Dcpl(recipe.architecture)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            network.set_submodule(name, Statistics(module.num_features))
    whole = Batch(
        images=torch.randint(256, (8, 32, 32, 3), dtype=torch.uint8),
        words=torch.randint(2, 20, (16, 5)),  # two captions an image
        lengths=torch.randint(1, 6, (16,)),
        identities=torch.arange(8) % 4,
    )
    share = torch.arange(8)[context.rank :: context.world_size]
    captions = torch.stack([2 * share, 2 * share + 1], 1).flatten()
    batch = Batch(
        whole.images[share], whole.words[captions], whole.lengths[captions], whole.identities[share]
    )
    with precise_cudnn():
        learner = Learner(network, recipe, 4, context)
        losses = learner.step(batch, 0)
    found = {f"loss {name}": torch.tensor(loss) for name, loss in losses.items()}
    for name, weight in learner.objective.named_parameters():
        assert weight.grad is not None
        found[name] = weight.grad.cpu()
    return found


def torchrun(processes: int) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
    ]


@pytest.mark.parametrize("backend", ["gloo", pytest.param("nccl", marks=pytest.mark.cuda)])
def test_losses_and_gradients_equal_those_of_one_process(tmp_path: Path, backend: str) -> None:
    """On GPUs with one process for each, be it a single one."""
    processes = 2 if backend == "gloo" else torch.cuda.device_count()
    script = tmp_path / "one_of_several.py"
    script.write_text(ONE_OF_SEVERAL)
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [*torchrun(processes), str(script), backend, str(tmp_path)]
    subprocess.run(command, check=True, env=environment)
    alone = gradients(DistributedContext(torch.device("cpu" if backend == "gloo" else "cuda")))
    for rank in range(processes):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, expected in alone.items():
            scale = expected.abs().max().item()
            torch.testing.assert_close(
                together[name], expected, atol=1e-4 * scale + 1e-7, rtol=1e-3, msg=name
            )


def test_torchrun_trains_and_one_process_writes(drawn: Path, tmp_path: Path) -> None:
    command = [
        *torchrun(2),
        *("-m", "training", "train", str(drawn), "-o", str(tmp_path / "run")),
        *("--preset", "small", "--epochs", "1", "--batch-size", "16"),
        *("--image-size", "32", "32", "--device", "cpu"),
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch   1") == 1
    (row,) = json.loads((tmp_path / "run" / "history.json").read_text())
    assert row["number"] == 1
    assert (tmp_path / "run" / "report" / "metrics.json").is_file()
