"""A service that is away is waited for, for a limited time, and that is said once."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from passerby import Client, PasserbyError, Refused, Unavailable
from passerby.v1 import search_pb2
from passerby.waiting import Peer, wait_out
from tests.support.processes import free_port
from tests.support.stores import redis_running


def away(times: int) -> Callable[[], str]:
    """Unavailable for so many attempts, then an answer."""
    left = times

    def attempt() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Unavailable("Redis cannot be reached")
        return "answer"

    return attempt


def test_an_outage_is_said_once_and_waited_out() -> None:
    said: list[str] = []
    assert wait_out(away(times=3), 10, said.append) == "answer"
    assert said[0] == "Waiting up to 10 s: Redis cannot be reached"
    assert said[1].startswith("It answers again, after ")
    assert len(said) == 2


def test_an_outage_longer_than_the_timeout_is_raised() -> None:
    said: list[str] = []
    start = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be reached"):
        wait_out(away(times=1000), 0.3, said.append)
    assert 0.3 <= time.monotonic() - start < 2
    assert len(said) == 1


def test_a_peer_is_waited_for_until_its_first_answer_only() -> None:
    peer = Peer(connect_timeout_s=10, say=lambda _: None)
    assert peer.call(away(times=2)) == "answer"
    with pytest.raises(Unavailable):
        peer.call(away(times=1))


def test_a_refusal_is_an_answer_too() -> None:
    peer = Peer(connect_timeout_s=10, say=lambda _: None)

    def refused() -> str:
        raise Refused("no such gallery")

    with pytest.raises(Refused):
        peer.call(refused)
    with pytest.raises(Unavailable):
        peer.call(away(times=1))


@pytest.fixture
def late() -> Iterator[str]:
    """The address of a query service that is unavailable at first: its second answer is one."""
    answers = [search_pb2.ListGalleriesResponse().SerializeToString(), None]

    def list_galleries(_: bytes, context: grpc.ServicerContext) -> bytes | None:
        answer = answers.pop()
        if answer is None:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "Milvus did not answer in time")
        return answer

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes | None]] = {
        "ListGalleries": grpc.unary_unary_rpc_method_handler(list_galleries)
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("passerby.v1.Search", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_query_service_is_waited_for_at_the_first_call(late: str) -> None:
    said: list[str] = []
    with Client(late, connect_timeout_s=30, on_wait=said.append) as client:
        assert client.galleries() == []
    assert said[0] == (
        f"Waiting up to 30 s: the query service at {late}: Milvus did not answer in time"
    )


def test_the_environment_says_how_long_a_first_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the container images do."""
    port = free_port()
    monkeypatch.setenv("PASSERBY_CONNECT_TIMEOUT_S", "0.1")
    said: list[str] = []
    with (
        Client(redis_url=f"redis://127.0.0.1:{port}/0", on_wait=said.append) as client,
        pytest.raises(Unavailable),
    ):
        client.pending()
    assert said[0].startswith("Waiting up to 0.1 s: Redis at ")
    with (
        redis_running(tmp_path, port) as url,
        Client(redis_url=url, on_wait=said.append) as client,
    ):
        assert client.pending() == 0
    assert len(said) == 1


def test_a_wrong_time_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSERBY_CONNECT_TIMEOUT_S", "soon")
    with pytest.raises(PasserbyError, match="PASSERBY_CONNECT_TIMEOUT_S='soon': must be seconds"):
        Client()


def test_a_silent_redis_is_waited_for_too() -> None:
    """What a policy drops is not refused: the connection is taken and nothing ever answers."""
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with (
            Client(
                redis_url=url, timeout_s=0.05, connect_timeout_s=0.2, on_wait=said.append
            ) as client,
            pytest.raises(Unavailable, match="cannot be reached"),
        ):
            client.pending()
    assert len(said) == 1
