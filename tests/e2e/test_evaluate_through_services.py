"""`evaluate --through-services` asks a running stack what it asks the bare network."""

import re

from click.testing import CliRunner

from deploy.local.stack import REPOSITORY, Stack
from services.embedder.training.__main__ import main
from tests.e2e.conftest import People


def evaluate(stack: Stack, people: People, split: str, gallery: str) -> tuple[int, str]:
    arguments = [str(REPOSITORY / "models" / "demo"), str(people.folder), "--split", split]
    services = ["--through-services", stack.query, "--gallery", gallery, "--device", "cpu"]
    result = CliRunner().invoke(main, ["evaluate", *arguments, *services])
    return result.exit_code, result.output


def test_the_index_costs_less_than_half_a_point(
    stack: Stack, people: People, people_gallery: str
) -> None:
    code, output = evaluate(stack, people, "all", people_gallery)
    assert code == 0, output
    assert f"all: {len(people.records):,} images" in output
    lost = re.findall(r"Rank-(\d+) +[\d.]+ through the services, ([+-][\d.]+)", output)
    assert [k for k, _ in lost] == ["1", "5", "10", "12"]
    assert all(abs(float(difference)) <= 0.5 for _, difference in lost), output


def test_a_gallery_that_holds_something_else_is_said(
    stack: Stack, people: People, people_gallery: str
) -> None:
    code, output = evaluate(stack, people, "test", people_gallery)
    assert code == 1
    assert "holds 1,200 images" in output
    assert "choose the --split that was pushed" in output
