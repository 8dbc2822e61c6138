"""What the services count begins at 0: `rate` misses the event with which a series begins."""

import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from deploy.local.stack import Stack
from passerby import Client
from passerby.errors import Refused
from tests.support.stack import People, enqueue, metrics_of, wait_until_indexed

# Counted as they come: the health service, the page's files, and calls of the stores.
NOT_LISTED = ("Check", "Watch", "ServerReflectionInfo")


def labelled(metrics: str) -> Iterator[tuple[str, str]]:
    """Name and labels of the series that have labels."""
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            labels = sample.labels
            if (
                sample.name.startswith("passerby_")
                and labels
                and labels.get("method") not in NOT_LISTED
                and labels.get("route", "/v1/").startswith("/v1/")
                and "store" not in labels
            ):
                yield sample.name, str(sorted(labels.items()))


def test_no_series_begins_with_its_first_event(
    stack: Stack, metrics_at_the_start: dict[str, str], people: People
) -> None:
    with Redis.from_url(stack.redis_url) as redis:
        enqueue(redis, "counted", {"1.jpg": people.image(1), "broken.jpg": b"no image"})
        wait_until_indexed(redis)
    with Client(query=stack.query) as client:
        client.search("a person", gallery="counted")
        with pytest.raises(Refused):
            client.search("a person", gallery="missing")
    with urllib.request.urlopen(f"{stack.page}v1/images/counted/1.jpg") as image:
        assert image.status == 200
    for service, metrics in metrics_of(stack).items():
        now = set(labelled(metrics))
        assert now
        assert now - set(labelled(metrics_at_the_start[service])) == set(), service
