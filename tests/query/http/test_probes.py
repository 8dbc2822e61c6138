"""Liveness, readiness and metrics over HTTP."""

import json

from tests.support.query import QueryService


def test_liveness_and_readiness_are_answered(service: QueryService) -> None:
    status, body, _ = service.get("/healthz")
    assert (status, json.loads(body)) == (200, {"live": True})
    status, body, _ = service.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "problems": {}})


def test_metrics_are_in_the_format_of_prometheus(service: QueryService) -> None:
    service.get("/healthz")
    status, body, headers = service.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert (
        'passerby_http_seconds_count{method="GET",route="/healthz",status="200"}' in body.decode()
    )
