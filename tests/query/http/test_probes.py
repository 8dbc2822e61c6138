"""Liveness and readiness for whoever asks, and for those who run the service."""

import json

from tests.support.query import QueryService


def test_liveness_and_readiness_are_answered(service: QueryService) -> None:
    status, body, _ = service.get("/healthz")
    assert (status, json.loads(body)) == (200, {"live": True})
    status, body, _ = service.get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True})


def test_metrics_are_on_the_private_port_alone(service: QueryService) -> None:
    service.get("/healthz")
    assert service.get("/metrics")[0] == 404
    status, body = service.ask_private("/metrics")
    assert status == 200
    assert (
        'passerby_http_seconds_count{method="GET",route="/healthz",status="200"}' in body.decode()
    )
    assert service.ask_private("/readyz") == (200, b'{"ready": true, "problems": {}}')
