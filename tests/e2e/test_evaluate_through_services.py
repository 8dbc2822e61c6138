"""`evaluate --through-services` asks a running stack what it asks the bare network."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.local.stack import REPOSITORY, Stack
from tests.support.stack import People, passerby
from training.__main__ import main

IMAGES = 160


@pytest.fixture
def few(people: People, tmp_path: Path) -> Path:
    """A data set of some of the people, which all count as its split test but for four."""
    records = [record | {"split": "test"} for record in people.records[:IMAGES]]
    for record in records[:4]:
        record["split"] = "val"
    return people.data_set(tmp_path, records)


def test_a_model_is_measured_through_the_services(stack: Stack, few: Path, gallery: str) -> None:
    passerby(stack, "push", str(few), "--gallery", gallery)

    def evaluate(split: str) -> tuple[int, str]:
        arguments = [str(REPOSITORY / "models" / "demo"), str(few), "--split", split]
        services = ["--through-services", stack.query, "--gallery", gallery, "--device", "cpu"]
        result = CliRunner().invoke(main, ["evaluate", *arguments, *services])
        return result.exit_code, result.output

    code, output = evaluate("all")
    assert code == 0, output
    assert f"all: {IMAGES} images of {IMAGES // 4} people" in output
    lost = re.findall(r"Rank-(\d+) +[\d.]+ through the services, ([+-][\d.]+)", output)
    assert [k for k, _ in lost] == ["1", "5", "10", "12"]
    assert all(abs(float(difference)) <= 1 for _, difference in lost), output

    code, output = evaluate("test")
    assert code == 1
    assert f"holds {IMAGES} images and the split {IMAGES - 4}" in output
    assert "choose the --split that was pushed" in output
