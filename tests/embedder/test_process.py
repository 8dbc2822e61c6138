"""The embedder as a process: wrong settings, signals, and a rolling restart under load."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.settings import EmbedderSettings
from services.runtime.grpc_client import connect
from services.runtime.settings import InvalidSetting, load
from tests.support.pictures import picture
from tests.support.processes import Service, free_port, wait_for_health

COMMAND = [sys.executable, "-m", "services.embedder"]


@pytest.fixture
def replicas(model_directory: Path) -> Iterator[list[Service]]:
    with contextlib.ExitStack() as running:
        settings = {"EMBEDDER_MODELS": str(model_directory)}
        yield [running.enter_context(Service("embedder", settings)) for _ in range(2)]


async def test_a_rolling_restart_of_two_replicas_fails_no_call(
    replicas: list[Service],
) -> None:
    answered, done = [0, 0], asyncio.Event()

    async def load(stub: "embedder_pb2_grpc.EmbedderAsyncStub", kind: int) -> None:
        captions = embedder_pb2.EmbedCaptionsRequest(captions=["a man"])
        images = embedder_pb2.EmbedImagesRequest(images=[picture(i) for i in range(4)])
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

    for replica in replicas:
        await asyncio.to_thread(replica.wait_until_serving)
    target = "ipv4:" + ",".join(replica.address for replica in replicas)
    async with connect(target) as channel, asyncio.TaskGroup() as group:
        stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)
        for kind in (0, 1) * 2:
            group.create_task(load(stub, kind))
        for replica in replicas:
            await more_answers()
            assert await asyncio.to_thread(replica.end) == 0
            await asyncio.to_thread(replica.start)
        await more_answers()
        done.set()


def test_a_second_signal_ends_an_embedder_that_loads_its_model(
    model_directory: Path, tmp_path: Path
) -> None:
    """Loading cannot be cut short: here the weights come through a pipe that nobody writes to."""
    shutil.copytree(model_directory, tmp_path / "slow")
    (tmp_path / "slow" / "weights.safetensors").unlink()
    os.mkfifo(tmp_path / "slow" / "weights.safetensors")
    with Service("embedder", {"EMBEDDER_MODELS": str(tmp_path / "slow")}) as service:
        assert service.process is not None
        service.wait_until_serving("live")
        service.process.send_signal(signal.SIGTERM)
        wait_for_health(service.address, "UNAVAILABLE", "live")
        assert service.process.poll() is None
        assert service.end(signal.SIGTERM) == 128 + signal.SIGTERM


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
