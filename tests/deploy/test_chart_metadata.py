"""What a chart says of itself: its description, its style, its README."""

import base64
import re
from pathlib import Path

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from deploy.helm.manifests import PROFILES
from deploy.helm.reference import CHART, ICON, values_table
from tests.support.chart import files

DESCRIPTION = yaml.safe_load((CHART / "Chart.yaml").read_text())
README = (CHART / "README.md").read_text()
# What `ct lint` of Helm's chart-testing asks of Chart.yaml and values.yaml.
STYLE = YamlLintConfig("""
extends: default
rules:
  document-start: disable
  indentation: {spaces: consistent, indent-sequences: whatever}
  line-length: disable
""")


@pytest.mark.parametrize(
    "path",
    [CHART / "Chart.yaml", CHART / "values.yaml", CHART / "renamed.yaml", *PROFILES],
    ids=lambda path: path.name,
)
def test_the_style_is_the_one_that_chart_testing_asks_for(path: Path) -> None:
    assert [str(problem) for problem in linter.run(path.read_text(), STYLE)] == []


def test_the_chart_says_who_makes_it_what_it_needs_and_what_it_looks_like() -> None:
    assert DESCRIPTION["home"]
    assert DESCRIPTION["sources"]
    assert all(maintainer["name"] for maintainer in DESCRIPTION["maintainers"])
    assert DESCRIPTION["icon"].startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(DESCRIPTION["icon"].partition(",")[2]) == ICON.read_bytes()
    # Addresses within the repository, which are there.
    for address in (DESCRIPTION["home"], *DESCRIPTION["sources"]):
        assert (CHART / address.removeprefix("file:")).exists(), address


def test_the_readme_names_the_versions_that_the_chart_requires() -> None:
    for heading in ("Requirements", "What it makes", "Upgrade notes", "Values", "Settings"):
        assert f"\n## {heading}\n" in README
    (kubernetes,) = re.findall(r">=(\d+\.\d+)", DESCRIPTION["kubeVersion"])
    (milvus,) = DESCRIPTION["dependencies"]
    assert f"| Kubernetes {kubernetes}; " in README
    assert f"the Milvus chart {milvus['version']} " in README
    assert f"**{DESCRIPTION['version']}.**" in README


def test_the_readmes_examples_are_values_that_the_chart_takes() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        assert files(yaml.safe_load(example))
    named = {name for name, _, _ in values_table((CHART / "values.yaml").read_text())}
    head = README.partition("## Upgrade notes")[0]
    for name in re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:=\w+)?`", head):
        is_there = any(f"{value}.".startswith(f"{name}.") for value in named)
        assert is_there or name.startswith("milvus."), name


def test_helm_docs_reads_every_description_whole() -> None:
    """It takes what stands after two hyphens for the description, wherever they are."""
    rows = values_table((CHART / "values.yaml").read_text())
    assert len(rows) > 170
    for name, _, meaning in rows:
        assert meaning.endswith("."), name
        assert "--" not in meaning, name
