"""The chart's doors: by which names the page is called, and where the kubelet asks."""

import pytest

from services.query.http.hosts import AllowedHosts
from tests.support.chart import SINGLE, Values, named, objects, workloads

OWN = "passerby-query,passerby-query.people,passerby-query.people.svc"


def hosts(values: Values) -> str:
    settings = named(objects(values), "ConfigMap", "passerby-query")["data"]
    return str(settings["QUERY_ALLOWED_HOSTS"])


ROUTE = {"enabled": True, "parentRefs": [{"name": "gateway"}]}


@pytest.mark.parametrize(
    ("values", "allowed", "rejected"),
    [
        ({}, ["localhost:8080", "passerby-query:8080", "10.0.0.7"], ["elsewhere.example"]),
        ({"ingress": {"enabled": True, "host": "people.example"}}, ["people.example"], ["other"]),
        ({"ingress": {"enabled": True}}, ["any.example"], []),
        ({"httpRoute": {**ROUTE, "hostnames": ["*.example"]}}, ["a.example"], ["a.other"]),
        ({"httpRoute": ROUTE}, ["any.example"], []),
        ({"query": {"allowedHosts": ["lb.example"]}}, ["lb.example"], ["xlb.example"]),
    ],
)
def test_browsers_call_the_page_by_the_names_that_it_is_published_under(
    values: Values, allowed: list[str], rejected: list[str]
) -> None:
    names = hosts(values)
    assert names.startswith(OWN)
    checked = AllowedHosts(names.split(","))
    assert all(checked.allows(host) for host in allowed)
    assert not any(checked.allows(host) for host in rejected)


@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
def test_the_kubelet_asks_the_private_port(values: Values) -> None:
    """A flood of requests cannot have a pod killed."""
    for pod in workloads(objects(values)):
        for container in pod.spec["containers"]:
            if container["name"] in ("embedder", "indexer", "query"):
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    assert container[probe]["httpGet"]["port"] == "private"
