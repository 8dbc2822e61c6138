"""The query service as a process: starts without what it needs, says so, goes on, drains."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import grpc
import pytest

from passerby.channel import CHANNEL_OPTIONS
from passerby.v1 import search_pb2, search_pb2_grpc
from tests.support.processes import REPOSITORY, Service, free_port, health, wait_until
from tests.support.query import (
    Model,
    QueryService,
    embedder_running,
    people,
    query_running,
)
from tests.support.stores import milvus_running, redis_running


def answer_of(service: QueryService, request: search_pb2.SearchRequest) -> str:
    """The first filename, or the error's code and text."""
    with service.stub() as stub:
        try:
            return str(stub.Search(request, timeout=8).hits[0].filename)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"


def test_each_dependency_may_start_late_and_is_named_until_it_does(
    model: Model, tmp_path: Path
) -> None:
    ports = {name: free_port() for name in ("redis", "milvus", "embedder")}
    environment = {
        "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}/0",
        "MILVUS_URI": f"http://127.0.0.1:{ports['milvus']}",
        "EMBEDDER_ADDRESS": f"127.0.0.1:{ports['embedder']}",
        "MILVUS_TIMEOUT_S": "3",
    }
    caption = search_pb2.SearchRequest(gallery="late", caption="a man")
    like = search_pb2.SearchRequest(gallery="late", filename="1.jpg")
    with query_running(environment, model.version) as service:
        assert health(service.grpc) == "NOT_SERVING"
        assert health(service.grpc, "live") == "SERVING"
        status, body, _ = service.get("/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False})
        status, body = service.ask_private("/readyz")
        assert status == 503
        problems = json.loads(body)["problems"]
        assert set(problems) == {"redis", "milvus", "embedder"}
        # Those who run the service are told the addresses, callers are not.
        assert f"127.0.0.1:{ports['milvus']}" in problems["milvus"]
        assert "Milvus" in answer_of(service, caption)
        assert answer_of(service, caption).startswith("UNAVAILABLE")
        assert "127.0.0.1" not in answer_of(service, caption)
        with milvus_running(tmp_path / "milvus", ports["milvus"]):
            with redis_running(tmp_path, ports["redis"]):
                service.fill("late", people(2))
                wait_until(lambda: health(service.grpc, "redis") == "SERVING", "redis")
                wait_until(lambda: health(service.grpc, "milvus") == "SERVING", "milvus")
                assert answer_of(service, like) == "0.jpg"
                assert "embedder" in answer_of(service, caption)
                assert answer_of(service, caption).startswith("UNAVAILABLE")
                with embedder_running(model, ports["embedder"]):
                    wait_until(lambda: health(service.grpc) == "SERVING", "all")
                    assert answer_of(service, caption).endswith(".jpg")
                wait_until(lambda: health(service.grpc, "embedder") != "SERVING", "loss")
            assert answer_of(service, like).startswith("UNAVAILABLE: Redis")
            wait_until(lambda: health(service.grpc, "redis") != "SERVING", "loss")
            status, body = service.post("/v1/search", {"gallery": "late", "filename": "1.jpg"})
            assert (status, body["code"]) == (503, "UNAVAILABLE")
            assert body["message"] == "Redis cannot be reached"


def test_a_rolling_restart_of_two_replicas_is_not_noticed(
    service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(3))
    replicas = [
        Service("query", {**service.environment, "QUERY_HTTP_PORT": str(free_port())})
        for _ in range(2)
    ]
    failures: list[grpc.RpcError] = []
    searches = [0]
    stop = threading.Event()

    def search() -> None:
        target = "ipv4:" + ",".join(replica.address for replica in replicas)
        with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
            stub = search_pb2_grpc.SearchStub(channel)
            while not stop.is_set():
                try:
                    stub.Search(
                        search_pb2.SearchRequest(gallery=gallery, filename="0.jpg"), timeout=10
                    )
                except grpc.RpcError as error:
                    failures.append(error)
                searches[0] += 1

    thread = threading.Thread(target=search)
    with replicas[0] as first, replicas[1] as second:
        for replica in replicas:
            replica.wait_until_serving()
        thread.start()
        try:
            assert first.end() == 0
            first.start()
            assert second.end() == 0
            before = searches[0]
            wait_until(lambda: searches[0] > before + 20, "searches on the new replica")
        finally:
            # Before the new replica is stopped as well.
            stop.set()
            thread.join()
    assert failures == []


def test_a_replica_that_is_cut_off_alone_fails_no_search(
    service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(3))
    private_port = free_port()
    cut_off = Service(
        "query",
        {
            **service.environment,
            "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "QUERY_HTTP_PORT": str(free_port()),
            "QUERY_METRICS_PORT": str(private_port),
        },
    )
    like = search_pb2.SearchRequest(gallery=gallery, filename="0.jpg")
    with cut_off:
        cut_off.wait_until_serving("milvus")
        # A search may begin at either one.
        target = f"ipv4:{cut_off.address},{service.grpc}"
        with grpc.insecure_channel(target, CHANNEL_OPTIONS) as channel:
            stub = search_pb2_grpc.SearchStub(channel)
            assert len([stub.Search(like, timeout=10).hits for _ in range(6)]) == 6
        before = searches_unavailable(private_port)
        assert before >= 3
        alone = grpc.insecure_channel(cut_off.address, CHANNEL_OPTIONS)
        with alone, pytest.raises(grpc.RpcError, match="Redis cannot be reached") as failed:
            search_pb2_grpc.SearchStub(alone).Search(like, timeout=10)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert searches_unavailable(private_port) == before + 3


def searches_unavailable(private_port: int) -> int:
    """How often a replica answered a search with UNAVAILABLE."""
    with urllib.request.urlopen(f"http://127.0.0.1:{private_port}/metrics") as metrics:
        (count,) = re.findall(
            r'^passerby_rpc_seconds_count{code="UNAVAILABLE",method="Search"} (\S+)$',
            metrics.read().decode(),
            re.MULTILINE,
        )
    return int(float(count))


def test_searches_in_hand_are_finished_after_sigterm(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(2))
    environment = {**service.environment, "QUERY_HTTP_PORT": str(free_port())}
    with Service("query", environment) as query:
        assert query.process is not None
        query.wait_until_serving()
        with grpc.insecure_channel(query.address) as channel:
            stub = search_pb2_grpc.SearchStub(channel)
            request = search_pb2.SearchRequest(gallery=gallery, caption="a man", top_k=2)
            in_hand = [stub.Search.future(request, timeout=30) for _ in range(40)]
            # The first answer shows that the others have arrived.
            assert len(in_hand[0].result().hits) == 2
            query.process.send_signal(signal.SIGTERM)
            assert all(len(call.result().hits) == 2 for call in in_hand)
        assert query.process.wait(40) == 0


def test_wrong_settings_are_named_and_stop_the_start() -> None:
    wrong = {
        "QUERY_HTTP_PORT": "70000",
        "QUERY_TIMEOUT_S": "soon",
        "REDIS_URL": "http://elsewhere",
    }
    done = subprocess.run(
        [sys.executable, "-m", "services.query"],
        cwd=REPOSITORY,
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    for variable, value in wrong.items():
        assert f"{variable}={value!r}" in done.stderr


def test_the_service_imports_no_torch() -> None:
    code = "import services.query.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
