"""The ablation trains its arms on one budget and prints a table."""

from pathlib import Path

from click.testing import CliRunner

from training.__main__ import main
from training.ablation import ARMS
from training.recipe import RECOMMENDED
from training.run import read_history
from training.synthetic.dataset import generate


def test_a_line_for_each_arm_and_no_arm_trained_twice(drawn: Path, tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    generate(enough, images=96, seed=6, workers=1)
    arguments = [
        "ablation",
        str(enough),
        "--hard",
        str(drawn),
        "-o",
        str(tmp_path),
        "--images",
        "64",
    ]
    budget = ["--epochs", "1", "--image-size", "32", "32", "--dimension", "8"]
    arms = ["--arm", "CMPM only", "--arm", "forward-only LSTM"]
    result = CliRunner().invoke(main, [*arguments, *budget, *arms])
    assert result.exit_code == 0, result.output
    head, rule, *rows = result.stdout.splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| CMPM only", "| forward-only LSTM"]
    assert {line.count("|") for line in (head, rule, *rows)} == {9}
    (epoch,) = read_history(tmp_path / "CMPM-only")
    assert epoch["losses"].keys() == {"loss", "cmpm"}
    assert CliRunner().invoke(main, [*arguments, *budget, *arms]).stdout == result.stdout


def test_each_variant_differs_from_the_recommended_recipe() -> None:
    assert [arm for arm, recipe in ARMS.items() if recipe == RECOMMENDED] == ["recommended"]
