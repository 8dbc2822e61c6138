"""One step of learning: rates, average, precision, and a loss that is no number any more."""

import copy
from dataclasses import replace

import pytest
import torch

from services.embedder.dcpl.network import Architecture, Dcpl
from training.data.batches import Batch
from training.distributed import DistributedContext
from training.fast.batch_norm_relu6 import BatchNormReLU6
from training.learner import Learner, TrainingDiverged, rate_factor, update_average
from training.recipe import PAPER, Recipe

PEOPLE = 8


def architecture(**changes: object) -> Architecture:
    small = {"vocabulary_size": 20, "word_dimension": 8, "hidden": 8, "dimension": 16}
    return Architecture(**small | changes)  # type: ignore[arg-type]


def batch_of() -> Batch:
    """Each person has a colour and words of their own."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(256, (PEOPLE, 1, 1, 3), generator=generator, dtype=torch.uint8)
    return Batch(
        images=colours.expand(-1, 32, 32, -1),
        words=torch.randint(2, 20, (PEOPLE, 5), generator=generator),
        lengths=torch.full((PEOPLE,), 5),
        identities=torch.arange(PEOPLE),
    )


@pytest.fixture
def recipe(tiny: Recipe) -> Recipe:
    return replace(tiny, architecture=architecture(), batch_size=PEOPLE, warmup_epochs=0, hold=1.0)


def learner_of(recipe: Recipe, context: DistributedContext) -> Learner:
    torch.manual_seed(0)
    return Learner(Dcpl(recipe.architecture), recipe, PEOPLE, context)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recurrence", ["bidirectional", "forward_twice"])
def test_repeating_a_batch_is_learnt(
    recipe: Recipe, context: DistributedContext, precision: str, recurrence: str
) -> None:
    learner = learner_of(
        replace(
            recipe,
            precision=precision,  # type: ignore[arg-type]
            architecture=architecture(recurrence=recurrence),
        ),
        context,
    )
    losses = [learner.step(batch_of(), 0) for _ in range(10)]
    assert losses[0].keys() == {"loss", "cmpm", "cmpc", "contrastive"}
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]


@pytest.mark.cuda
def test_recorded_passes_learn_the_same(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, cuda = replace(recipe, precision="float32"), DistributedContext(torch.device("cuda"))
    recorded = learner_of(exact, cuda)
    monkeypatch.setattr("training.learner.replay", lambda *_, **__: None)
    plain = learner_of(exact, cuda)
    for _ in range(3):
        found, expected = recorded.step(batch_of(), 0), plain.step(batch_of(), 0)
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_computed_where_the_processor_can_and_else_float32_with_a_warning(
    recipe: Recipe,
    cpu: DistributedContext,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
) -> None:
    """On every processor: what it says of itself is replaced."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert learner_of(replace(recipe, precision="bfloat16"), cpu).bfloat16 is native
    assert ("computing in float32" in caplog.text) is not native


def test_a_recipe_in_float32_is_not_warned_about(
    recipe: Recipe, cpu: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    assert not learner_of(replace(recipe, precision="float32"), cpu).bfloat16
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("cmpm", "cmpc", "contrastive"),
    [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.0, 0.5, 4.0)],
)
def test_each_loss_has_a_switch_and_a_weight(
    recipe: Recipe, cpu: DistributedContext, cmpm: float, cmpc: float, contrastive: float
) -> None:
    weighted = replace(recipe, cmpm_weight=cmpm, cmpc_weight=cmpc, contrastive_weight=contrastive)
    losses = learner_of(weighted, cpu).step(batch_of(), 0)
    weights = {"cmpm": cmpm, "cmpc": cmpc, "contrastive": contrastive}
    assert losses.keys() == {"loss"} | {name for name, weight in weights.items() if weight}
    expected = sum(weight * losses.get(name, 0) for name, weight in weights.items())
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_stops_with_step_and_rate_before_any_weight_changes(
    recipe: Recipe, cpu: DistributedContext
) -> None:
    learner = learner_of(replace(recipe, learning_rate=0.01), cpu)
    learner.step(batch_of(), 0.5)
    with torch.no_grad():
        learner.objective.network.image_projection.bias[0] = float("nan")
    before = copy.deepcopy(learner.objective.network.image_tower.state_dict())
    with pytest.raises(
        TrainingDiverged, match=r"the loss is nan at step 2 \(epoch 1\.50, learning rate 0\.01\)"
    ):
        learner.step(batch_of(), 0.5)
    for name, weight in learner.objective.network.image_tower.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_the_rate_warms_up_holds_and_falls() -> None:
    recipe = replace(PAPER, epochs=10, warmup_epochs=1, hold=0.5)
    assert rate_factor(recipe, 0.5) == 0.5
    assert rate_factor(recipe, 1) == 1
    assert rate_factor(recipe, 5) == 1
    assert rate_factor(recipe, 7.5) == pytest.approx(0.5)
    assert rate_factor(recipe, 10) == 0.01
    assert rate_factor(PAPER, 50) == 1


def test_the_image_tower_has_a_rate_of_its_own(recipe: Recipe, cpu: DistributedContext) -> None:
    learner = learner_of(replace(recipe, tower_rate_factor=0.1, learning_rate=0.002), cpu)
    learner.step(batch_of(), 0)
    tower = {id(weight) for weight in learner.objective.network.image_tower.parameters()}
    for group in learner.optimizer.param_groups:
        rate = 0.0002 if id(group["params"][0]) in tower else 0.002
        assert group["lr"] == pytest.approx(rate)
        assert all((id(weight) in tower) == (rate == 0.0002) for weight in group["params"])


def test_norms_and_biases_do_not_decay(recipe: Recipe, cpu: DistributedContext) -> None:
    for group in learner_of(recipe, cpu).optimizer.param_groups:
        matrices = {weight.ndim > 1 for weight in group["params"]}
        assert matrices == {group["weight_decay"] > 0}


def test_the_average_follows_the_weights(recipe: Recipe, cpu: DistributedContext) -> None:
    learner = learner_of(replace(recipe, ema_decay=0.9), cpu)
    start = copy.deepcopy(learner.objective.network.caption_projection.weight)
    learner.step(batch_of(), 0)
    now = learner.objective.network.caption_projection.weight
    # A young average: after the first step, 2/11 of the old.
    torch.testing.assert_close(
        learner.model.caption_projection.weight, start * 2 / 11 + now.detach() * 9 / 11
    )
    assert not learner.model.training


def test_without_an_average_the_model_is_the_network(
    recipe: Recipe, cpu: DistributedContext
) -> None:
    learner = learner_of(replace(recipe, ema_decay=0.0), cpu)
    assert learner.model is learner.objective.network
    assert not learner.model.training
    learner.step(batch_of(), 0)
    assert learner.objective.network.training


def test_the_average_keeps_counters_and_averages_statistics() -> None:
    network = torch.nn.BatchNorm1d(1)
    average = copy.deepcopy(network)
    network.get_buffer("running_mean").fill_(1.0)
    network.get_buffer("num_batches_tracked").fill_(5)
    update_average(average, network, 0.75)
    assert average.get_buffer("running_mean").item() == 0.25
    assert average.get_buffer("num_batches_tracked").item() == 5


def test_long_gradients_are_shortened(recipe: Recipe, cpu: DistributedContext) -> None:
    learner = learner_of(replace(recipe, clip_norm=1e-3), cpu)
    learner.step(batch_of(), 0)
    norms = [w.grad.norm() for w in learner.objective.parameters() if w.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_fast_modules_are_new_ones_with_the_same_state_dict(
    recipe: Recipe, cpu: DistributedContext
) -> None:
    fast, plain = learner_of(recipe, cpu).objective, learner_of(plain_of(recipe), cpu).objective
    assert list(fast.state_dict()) == list(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(fast.state_dict()[name], tensor), name
    assert any(isinstance(module, BatchNormReLU6) for module in fast.modules())


def test_a_plain_recipe_keeps_the_networks_own_modules(
    recipe: Recipe, cpu: DistributedContext
) -> None:
    network = Dcpl(recipe.architecture)
    modules = [*network.modules()]
    Learner(network, plain_of(recipe), PEOPLE, cpu)
    assert all(now is before for now, before in zip(network.modules(), modules, strict=True))


def plain_of(recipe: Recipe) -> Recipe:
    return replace(recipe, fast=False)
