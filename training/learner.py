"""What learns: network, losses, optimiser and the moving average; one step at a time."""

import copy
import logging
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from services.embedder.dcpl.network import Dcpl
from services.embedder.dcpl.precision import choose_precision
from training.data.augment import normalise
from training.data.batches import Batch
from training.distributed import DistributedContext
from training.fast.cuda_graphs import replay
from training.fast.on_cpu import speed_up_on_cpu
from training.objective import Objective
from training.recipe import Recipe

LOG = logging.getLogger(__name__)


class TrainingDiverged(ArithmeticError):
    """The loss is not finite any more; the last checkpoint is from before that."""


class Learner:
    """Holds all that changes while training; `state_dict` is therefore a whole checkpoint."""

    def __init__(
        self, network: Dcpl, recipe: Recipe, identities: int, context: DistributedContext
    ) -> None:
        """network: freshly made or with a pretrained tower; it is moved to the context's device,
        modules of it are replaced by faster ones, and it is trained in place.
        identities: how many people the training images show.
        """
        self.recipe = recipe
        self.device = context.device
        self.bfloat16 = (
            recipe.precision == "bfloat16"
            and choose_precision("auto", self.device, recipe.image_width) == torch.bfloat16
        )
        if recipe.precision == "bfloat16" and not self.bfloat16:
            LOG.warning(
                "computing in float32: this %s does not multiply in bfloat16, or not rightly where "
                "images are %d pixels wide",
                self.device.type,
                recipe.image_width,
            )
        self.objective = Objective(
            network,
            identities,
            cmpm_weight=recipe.cmpm_weight,
            cmpc_weight=recipe.cmpc_weight,
            contrastive_weight=recipe.contrastive_weight,
        ).to(self.device)
        if recipe.channels_last:
            self.objective.to(memory_format=torch.channels_last)
        self.average = _copy_of(network) if recipe.ema_decay else None
        if recipe.fast:
            self._speed_up(network, recipe.batch_size // context.world_size)
        self.module: nn.Module = self.objective
        if torch.distributed.is_initialized():
            self.module = DistributedDataParallel(self.objective)
        self.optimizer = build_optimizer(self.objective, recipe)
        self.steps = 0

    def _speed_up(self, network: Dcpl, images: int) -> None:
        """images: those of a step in this process."""
        if self.device.type == "cuda":
            size = (images, self.recipe.image_height, self.recipe.image_width, 3)
            blank = self._prepared(torch.zeros(size, dtype=torch.uint8, device=self.device))
            replay(network.image_tower, blank, bfloat16=self.bfloat16)
        elif self.recipe.precision == "bfloat16":  # a recipe in float32 keeps PyTorch's modules
            speed_up_on_cpu(network, bfloat16=self.bfloat16)

    @property
    def model(self) -> Dcpl:
        """The network to evaluate and to keep, in eval mode."""
        return self.objective.network.eval() if self.average is None else self.average

    def step(self, batch: Batch, epoch: float) -> dict[str, float]:
        """Learn from one batch; `epoch` is the position in the run, with its fraction.

        On a GPU it must hold this process's whole share of the recipe's batch size.
        """
        rate = self.recipe.learning_rate * rate_factor(self.recipe, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        self.objective.train()
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            losses: dict[str, Tensor] = self.module(
                self._prepared(batch.images), batch.words, batch.lengths, batch.identities
            )
        # One transfer for all: a GPU would be waited for at each.
        values = dict(zip(losses, torch.stack([*losses.values()]).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise TrainingDiverged(
                f"the loss is {values['loss']} at step {self.steps + 1} (epoch {epoch + 1:.2f}, "
                f"learning rate {rate:.2g}); the last checkpoint is intact. Start in another "
                f"directory with a lower --learning-rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.steps += 1
        if self.average is not None:
            # A young average forgets faster, or it would remember the random start for long.
            decay = min(self.recipe.ema_decay, (1 + self.steps) / (10 + self.steps))
            update_average(self.average, self.objective.network, decay)
        return values

    def _prepared(self, images: Tensor) -> Tensor:
        """(images, height, width, 3) uint8 -> what the network sees, in the recipe's layout."""
        images = normalise(images)
        return images if self.recipe.channels_last else images.contiguous()

    def state_dict(self) -> dict[str, Any]:
        return {
            "objective": self.objective.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def load_weights(self, state: dict[str, Any]) -> None:
        """Begin with another learner's weights, but with a fresh optimiser.

        Raises RuntimeError if they are of another architecture or number of identities.
        """
        self.objective.load_state_dict(state["objective"])
        if self.average is not None:
            self.average.load_state_dict(self.objective.network.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.objective.load_state_dict(state["objective"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


def _copy_of(network: Dcpl) -> Dcpl:
    """For the average, in eval mode."""
    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        if isinstance(module, nn.LSTM):
            module.flatten_parameters()  # cuDNN wants them in one piece, which copying undoes
    return copied


def build_optimizer(objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam or AdamW; the image tower at its own rate, no decay for biases and norms."""
    tower = {id(weight) for weight in objective.network.image_tower.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in objective.parameters():
        rate_factor = recipe.tower_rate_factor if id(weight) in tower else 1.0
        decay = recipe.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault((rate_factor, decay), []).append(weight)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(
        [
            {"params": weights, "rate_factor": rate_factor, "weight_decay": decay}
            for (rate_factor, decay), weights in groups.items()
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


def rate_factor(recipe: Recipe, epoch: float) -> float:
    """Share of the learning rate at a position of the run: linear warm-up, then the schedule."""
    if epoch < recipe.warmup_epochs:
        return max(epoch / recipe.warmup_epochs, 0.01)
    held = recipe.hold * recipe.epochs
    if epoch <= held:
        return 1.0
    return max(0.5 * (1 + math.cos(math.pi * (epoch - held) / (recipe.epochs - held))), 0.01)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay x average + (1 - decay) x network; counters are copied."""
    current = network.state_dict()
    old: dict[bool, list[Tensor]] = {True: [], False: []}
    new: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, tensor in average.state_dict().items():
        old[tensor.is_floating_point()].append(tensor)
        new[tensor.is_floating_point()].append(current[name])
    # All at once, as torch's own EMA does: to a GPU each tensor would be a command.
    torch._foreach_lerp_(old[True], new[True], 1 - decay)
    if old[False]:
        torch._foreach_copy_(old[False], new[False])
