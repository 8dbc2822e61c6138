"""The dashboard asks for what the running services expose, label by label."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from deploy.helm.dashboard import ROWS, Panel
from deploy.local.stack import Stack
from passerby import Client
from tests.support.stack import People, enqueue, metrics_of, wait_until_indexed

# What Prometheus adds to each series.
ADDED = {"namespace", "pod"}


@pytest.fixture(scope="module")
def exposed(stack: Stack, people: People) -> dict[str, set[str]]:
    """Series (also those that have no value here) -> their labels, once every step was taken."""
    with Redis.from_url(stack.redis_url) as redis:
        enqueue(redis, "measured", {"1.jpg": people.image(1)})
        wait_until_indexed(redis)
    with Client(query=stack.query) as client:
        client.search("a person", gallery="measured")
    series: dict[str, set[str]] = {}
    for metrics in metrics_of(stack).values():
        for family in text_string_to_metric_families(metrics):
            series.setdefault(family.name, set())
            for sample in family.samples:
                series.setdefault(sample.name, set()).update(sample.labels)
    return series


@pytest.mark.parametrize(
    "panel", [panel for panels in ROWS.values() for panel in panels], ids=lambda panel: panel.title
)
def test_a_panel_asks_for_series_and_labels_that_exist(
    panel: Panel, exposed: dict[str, set[str]]
) -> None:
    for legend, expression in panel.lines.items():
        named = re.findall(r"\b(passerby_\w+)\{(.*?)\}", expression)
        assert named
        assert len(named) == expression.count("passerby_")
        grouped = {
            label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")
        }
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert shown <= grouped or "by (" not in expression
        for name, selectors in named:
            assert name in exposed
            if name == "passerby_embedder_gpu_memory_bytes":
                continue  # no value without a GPU; its test is among the embedder's
            labels = set(re.findall(r"(\w+)=", selectors)) | grouped | shown
            assert labels <= exposed[name] | ADDED, name
