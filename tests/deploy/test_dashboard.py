"""The dashboard in the chart: found by Grafana's sidecar, and in PromQL that Prometheus reads.

PROMTOOL names Prometheus's own program, which then checks every expression.
"""

import json
import os
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from deploy.helm.dashboard import ROWS
from tests.support.chart import SINGLE, Values, merged, named, objects, of_kind

EXPRESSIONS = [
    expression
    for panels in ROWS.values()
    for panel in panels
    for expression in panel.lines.values()
]


def test_grafana_finds_the_dashboard_and_no_two_panels_cover_each_other() -> None:
    config = named(objects(SINGLE["monitored"]), "ConfigMap", "passerby-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(config["data"]["passerby.json"])["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert asked == EXPRESSIONS
    places = [panel["gridPos"] for panel in panels]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@pytest.mark.parametrize(
    "values", [{}, merged(SINGLE["monitored"], {"monitoring": {"enabled": False}})]
)
def test_there_is_none_unless_it_is_asked_for(values: Values) -> None:
    names = [item["metadata"]["name"] for item in of_kind(objects(values), "ConfigMap")]
    assert "passerby-dashboard" not in names


if "PROMTOOL" in os.environ:

    def test_prometheus_reads_every_expression(tmp_path: Path) -> None:
        rules = [
            {
                "record": f"panel:{number}",
                "expr": expression.replace("$__rate_interval", "5m"),
            }
            for number, expression in enumerate(EXPRESSIONS)
        ]
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        subprocess.run([os.environ["PROMTOOL"], "check", "rules", file], check=True, timeout=60)
