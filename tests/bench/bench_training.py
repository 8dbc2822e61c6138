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
from collections.abc import Callable
from dataclasses import replace

import torch

from services.embedder.dcpl.network import Dcpl
from services.embedder.training.augment import augment, normalise
from services.embedder.training.batches import Batch
from services.embedder.training.learner import Learner, Place
from services.embedder.training.objective import Objective
from services.embedder.training.recipe import PAPER, RECOMMENDED, Recipe

WORDS, IDENTITIES = 30, 11_003
WARM_UP = 3
"""Steps before those that count."""
IMAGES = 384
"""Measured in a turn."""
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
    """Images/s of one recipe's steps, augmentation included, and the peak memory in MiB."""
    recipe = RECIPES[name]
    batch = batch_for(recipe)
    step = plain_step(recipe, batch) if name == PLAIN else recommended_step(recipe, batch)
    for _ in range(WARM_UP):
        step()
    started = time.monotonic()
    steps = IMAGES // recipe.batch_size
    for _ in range(steps):
        step()
    seconds = time.monotonic() - started
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return steps * recipe.batch_size / seconds, peak_kib / 1024


def plain_step(recipe: Recipe, batch: Batch) -> Callable[[], None]:
    network = Dcpl(recipe.architecture)
    objective = Objective(
        network, IDENTITIES, cmpm_weight=1, cmpc_weight=1, contrastive_weight=0
    ).train()
    optimizer = torch.optim.Adam(objective.parameters(), lr=recipe.learning_rate)

    def step() -> None:
        images = normalise(augment(batch.images, recipe.augmentation, 0)).contiguous()
        losses = objective(images, batch.words, batch.lengths, batch.identities)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()

    return step


def recommended_step(recipe: Recipe, batch: Batch) -> Callable[[], None]:
    learner = Learner(Dcpl(recipe.architecture), recipe, IDENTITIES, Place(torch.device("cpu")))

    def step() -> None:
        images = augment(batch.images, recipe.augmentation, 0)
        learner.step(replace(batch, images=images), 1)

    return step


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
