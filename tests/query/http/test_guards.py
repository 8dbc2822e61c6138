"""What every HTTP request passes: errors in one form, metrics, DNS rebinding, CSRF."""

import json
import re

from tests.support.query import QueryService, people

JSON = {"Content-Type": "application/json"}


def test_errors_of_addresses_and_methods_are_json(service: QueryService, gallery: str) -> None:
    def failure(path: str) -> tuple[int, str]:
        status, body, _ = service.get(path)
        answer = json.loads(body)
        assert answer["message"]
        return status, answer["code"]

    assert failure("/v1/nothing") == (404, "NOT_FOUND")
    assert failure("/v1/search") == (405, "UNIMPLEMENTED")
    assert failure(f"/v1/galleries/{gallery}") == (404, "NOT_FOUND")
    assert failure(f"/v1/images/{gallery}/x") == (404, "NOT_FOUND")
    assert failure("/v1/images/Not%20One/x") == (400, "INVALID_ARGUMENT")
    assert failure(f"/v1/images/{gallery}/%ff") == (400, "INVALID_ARGUMENT")
    assert failure("/page.py") == (404, "NOT_FOUND")
    assert failure("/..%2f__main__.py") == (404, "NOT_FOUND")


def test_no_answer_names_the_software(service: QueryService) -> None:
    for path in ("/", "/v1/galleries", "/v1/nothing", "/v1/openapi.json"):
        headers = service.get(path)[2]
        assert "Server" not in headers, path
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_csrf_is_rejected(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "filenames": ["0.jpg"]}
    # What a browser sends across sites without asking first.
    origin = {"Origin": "http://elsewhere.example"}
    for simple in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        foreign = {**origin, "Content-Type": simple}
        assert service.post("/v1/delete", body, **foreign)[0] == 400
    status, _, headers = service.get("/v1/galleries", Origin="http://elsewhere.example")
    assert status == 200
    assert "Access-Control-Allow-Origin" not in headers
    assert service.post("/v1/delete", body, **JSON)[1] == {"deleted": "1"}


def test_dns_rebinding_is_rejected(service: QueryService, gallery: str) -> None:
    """A website had its own name resolve to 127.0.0.1: to the browser all is of one origin."""
    service.fill(gallery, people(1))
    body = {"gallery": gallery, "filenames": ["0.jpg"]}
    for name in ("elsewhere.example:8080", "127.0.0.1.elsewhere.example", "[::1", "localhost\xff"):
        status, answer = service.post("/v1/delete", body, Host=name, **JSON)
        assert (status, answer["code"]) == (403, "PERMISSION_DENIED")
        assert "QUERY_ALLOWED_HOSTS" in answer["message"]
        assert service.get("/", Host=name)[0] == 403
    for name in ("localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "10.0.0.7:8080"):
        assert service.get("/", Host=name)[0] == 200


def observed(service: QueryService, route: str) -> float:
    """How many GET requests of this route were answered with 200, by the metrics."""
    labels = re.escape(f'{{method="GET",route="{route}",status="200"}}')
    metrics = service.ask_private("/metrics")[1].decode()
    found = re.search(rf"^passerby_http_seconds_count{labels} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0


def test_each_request_is_measured_by_its_route(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(1))
    route = "/v1/galleries/{gallery}"
    before = observed(service, route)
    service.get(f"/v1/galleries/{gallery}")
    service.get(f"/v1/galleries/{gallery}")
    assert observed(service, route) == before + 2
