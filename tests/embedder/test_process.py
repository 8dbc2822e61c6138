"""The embedder as a process: wrong settings, signals, and a rolling restart under load."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.settings import EmbedderSettings
from services.runtime.grpc_client import connect
from services.runtime.settings import InvalidSetting, load
from tests.support.embedder import SERVING
from tests.support.pictures import png, random_pixels
from tests.support.processes import free_port, wait_until

COMMAND = [sys.executable, "-m", "services.embedder"]


def start(port: int, model_directory: Path) -> "subprocess.Popen[bytes]":
    environment = {"EMBEDDER_PORT": str(port), "EMBEDDER_MODELS": str(model_directory)}
    return subprocess.Popen(COMMAND, env={**os.environ, **environment})


async def ready(port: int) -> None:
    def serves() -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            # The stub's types leave its methods out, as they differ for asynchronous channels.
            health: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                return False
            return bool(answer.status == SERVING)

    await asyncio.to_thread(wait_until, serves, "the embedder ready", 90)


@pytest.fixture
def replicas(model_directory: Path) -> Iterator[dict[int, "subprocess.Popen[bytes]"]]:
    """Port -> process, of two embedders; what is put in is stopped at the end."""
    processes = {port: start(port, model_directory) for port in (free_port(), free_port())}
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


@pytest.mark.timeout(400)  # four starts and two stops, each of seconds where much else runs
async def test_a_rolling_restart_of_two_replicas_fails_no_call(
    replicas: dict[int, "subprocess.Popen[bytes]"], model_directory: Path
) -> None:
    answered, done = [0, 0], asyncio.Event()

    async def load(stub: "embedder_pb2_grpc.EmbedderAsyncStub", kind: int) -> None:
        captions = embedder_pb2.EmbedCaptionsRequest(captions=["a man"])
        images = embedder_pb2.EmbedImagesRequest(images=[png(random_pixels(i)) for i in range(4)])
        while not done.is_set():
            if kind:
                results = (await stub.EmbedImages(images)).results
            else:
                results = (await stub.EmbedCaptions(captions)).results
            assert all(result.vector for result in results)
            answered[kind] += 1
            await asyncio.sleep(0.05)  # or the replica that starts would hardly get to compute

    async def more_answers() -> None:
        wanted = [count + 20 for count in answered]
        while any(now < then for now, then in zip(answered, wanted, strict=True)):
            await asyncio.sleep(0.01)

    for port in replicas:
        await ready(port)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in replicas)
    async with connect(target) as channel, asyncio.TaskGroup() as group:
        stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)
        for kind in (0, 1) * 4:
            group.create_task(load(stub, kind))
        for port, process in list(replicas.items()):
            await more_answers()
            process.terminate()
            assert await asyncio.to_thread(process.wait, 60) == 0
            replicas[port] = start(port, model_directory)
            await ready(port)
        await more_answers()
        done.set()


WRONG = {
    "EMBEDDER_DEVICE": "gpu",
    "EMBEDDER_PRECISION": "float8",
    "EMBEDDER_MAX_BATCH": "none",
    "EMBEDDER_MAX_QUEUE": "0",
    "EMBEDDER_THREADS": "-1",
    "EMBEDDER_MODELS": " , ",
}


@pytest.mark.parametrize("variable", WRONG)
def test_a_wrong_setting_is_named_with_its_value(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDER_MODELS", "models/demo")
    monkeypatch.setenv(variable, WRONG[variable])
    with pytest.raises(InvalidSetting, match=f"{variable}='{WRONG[variable]}': "):
        load(EmbedderSettings)


def test_an_embedder_without_a_model_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDER_MODELS", raising=False)
    with pytest.raises(InvalidSetting, match="EMBEDDER_MODELS is not set: model directories"):
        load(EmbedderSettings)


def test_a_missing_model_ends_the_start_with_code_2_and_the_reason(tmp_path: Path) -> None:
    environment = {"EMBEDDER_PORT": str(free_port()), "EMBEDDER_MODELS": str(tmp_path / "none")}
    ended = subprocess.run(
        COMMAND, env={**os.environ, **environment}, capture_output=True, text=True, timeout=90
    )
    assert ended.returncode == 2
    assert f"{tmp_path}/none/model.json: No such file" in ended.stderr
    assert "Traceback" not in ended.stderr
