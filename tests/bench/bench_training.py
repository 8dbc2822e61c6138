"""Training speed and memory of the recommended recipe beside the reference recipe's plain loop.

All train the same network, of CUHK-PEDES's dimensions, turn by turn in processes of their own, on
the GPU where there is one. The plain loop is the reference's: batches of 16, float32, eager,
default memory format, Adam. All are fed as training feeds itself.
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
from services.embedder.dcpl.vocabulary import Vocabulary
from training.data.augment import normalise
from training.data.batches import Batch, TrainingImages, batches
from training.distributed import DistributedContext
from training.learner import Learner
from training.objective import Objective
from training.recipe import PAPER, RECOMMENDED, Recipe

IDENTITIES = 11_003
CONTEXT = DistributedContext(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
WARM_UP = 3 if CONTEXT.device.type == "cpu" else 100
"""Steps before those that count."""
IMAGES = 384 if CONTEXT.device.type == "cpu" else 16_384
"""Measured in a turn."""
TURNS = 3
PLAIN = "plain"
SAME_SIZE = replace(RECOMMENDED, image_height=224, image_width=224)
RECIPES = {
    PLAIN: PAPER,
    "recommended, one caption": replace(SAME_SIZE, captions_per_image=1),  # as plain has
    "recommended, its two captions": SAME_SIZE,
    "recommended, its own size": RECOMMENDED,
}


def noise(recipe: Recipe) -> TrainingImages:
    """What is in images and captions makes no difference to the time; the images are few, seen
    again and again.
    """
    seen = IMAGES + WARM_UP * recipe.batch_size
    few = min(seen, 1024)
    size = (few, recipe.image_height, recipe.image_width, 3)
    # As many words as the drawn captions have, which have some more than CUHK-PEDES's.
    lengths = torch.empty(few).normal_(26.5, 7.2).clamp(12, 61).int().tolist()
    words = recipe.architecture.vocabulary_size
    captions = [torch.randint(2, words, (length,)).tolist() for length in lengths]
    of = torch.arange(seen) % few
    return TrainingImages(
        pixels=torch.randint(256, size, dtype=torch.uint8).numpy()[of],
        captions=[[captions[i]] * 2 for i in of.tolist()],
        identities=torch.arange(seen) % IDENTITIES,
        vocabulary=Vocabulary.build(["a woman and a man"]),
    )


def measure(name: str) -> tuple[float, float]:
    """Images/s of one recipe, from decoded images to the step, and the peak memory in MiB."""
    recipe = RECIPES[name]
    step = plain_step(recipe) if name == PLAIN else recommended_step(recipe)
    started = 0.0
    prepared = batches(noise(recipe), recipe, 0, loaders=CONTEXT.loaders)
    for number, batch in enumerate(prepared, start=1):
        step(batch)
        if number == WARM_UP:
            started = time.monotonic()
    seconds = time.monotonic() - started
    if CONTEXT.device.type == "cuda":
        return IMAGES / seconds, torch.cuda.max_memory_allocated() / 2**20
    return IMAGES / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def plain_step(recipe: Recipe) -> Callable[[Batch], None]:
    objective = Objective(
        Dcpl(recipe.architecture), IDENTITIES, cmpm_weight=1, cmpc_weight=1, contrastive_weight=0
    )
    objective.to(CONTEXT.device).train()
    optimizer = torch.optim.Adam(objective.parameters(), lr=recipe.learning_rate)

    def step(batch: Batch) -> None:
        images, *others = batch.to(CONTEXT.device)
        losses = objective(normalise(images).contiguous(), *others)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        losses["loss"].item()  # is looked at, which waits for the GPU

    return step


def recommended_step(recipe: Recipe) -> Callable[[Batch], None]:
    learner = Learner(Dcpl(recipe.architecture), recipe, IDENTITIES, CONTEXT)

    def step(batch: Batch) -> None:
        learner.step(batch, 1)

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
