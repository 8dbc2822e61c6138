"""Training speed and memory of the recommended recipe beside the reference recipe's plain loop.

All train the same network, of CUHK-PEDES's dimensions, turn by turn in processes of their own. The
plain loop is the reference's: batches of 16, float32, eager, default memory format, Adam.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import torch

from services.embedder.dcpl.network import Dcpl
from services.embedder.training.batches import Batch, generator_for
from services.embedder.training.learner import Learner, Place
from services.embedder.training.recipe import PAPER, RECOMMENDED, Recipe

WORDS, IDENTITIES = 30, 11_003
IMAGES = 96
"""Measured in a turn, after one step to warm up."""
TURNS = 3
PLAIN, SAME_SIZE, OWN_SIZE = "plain", "recommended at the same size", "recommended"
RECIPES = {
    PLAIN: PAPER,
    SAME_SIZE: replace(RECOMMENDED, image_height=224, image_width=224),
    OWN_SIZE: RECOMMENDED,
}


def batch_for(recipe: Recipe) -> Batch:
    """Noise: what is in the images makes no difference to the time."""
    images = recipe.batch_size
    captions = images * recipe.captions_per_image
    return Batch(
        images=torch.randint(
            256, (images, recipe.image_height, recipe.image_width, 3), dtype=torch.uint8
        ),
        words=torch.randint(2, recipe.architecture.vocabulary_size, (captions, WORDS)),
        lengths=torch.randint(WORDS // 2, WORDS + 1, (captions,)),
        identities=torch.arange(images),
    )


def measure(name: str) -> tuple[float, float]:
    """Images/s of one recipe's steps, and this process's peak memory in MiB."""
    recipe = RECIPES[name]
    learner = Learner(Dcpl(recipe.architecture), recipe, IDENTITIES, Place(torch.device("cpu")))
    batch = batch_for(recipe)
    learner.step(batch, 1, generator_for(0))
    started = time.monotonic()
    steps = IMAGES // recipe.batch_size
    for step in range(steps):
        learner.step(batch, 1, generator_for(step))
    seconds = time.monotonic() - started
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return steps * recipe.batch_size / seconds, peak_kib / 1024


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in RECIPES}
    for _ in range(TURNS):
        for name, measured in found.items():
            command = [sys.executable, "-m", "tests.bench.bench_training", name]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            speed, memory = json.loads(answer)
            measured.append((speed, memory))
    speeds = {name: statistics.median(s for s, _ in rows) for name, rows in found.items()}
    for name, rows in found.items():
        recipe = RECIPES[name]
        print(
            f"{name:<29} {recipe.image_height}x{recipe.image_width} batch {recipe.batch_size}  "
            f"{speeds[name]:5.1f} images/s ({speeds[name] / speeds[PLAIN]:.2f} x)  "
            f"peak {max(memory for _, memory in rows):,.0f} MiB"
        )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
