"""The embedder over real gRPC, in this process: vectors, order, errors, load, readiness."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from passerby.v1 import embedder_pb2
from services.runtime.service import CannotStart
from tests.support.embedder import Bare, Serving
from tests.support.models import DIMENSION, make_model
from tests.support.pictures import picture, random_pixels

pytestmark = pytest.mark.usefixtures("one_thread")


def images(*seeds: int) -> embedder_pb2.EmbedImagesRequest:
    return embedder_pb2.EmbedImagesRequest(images=[picture(seed) for seed in seeds])


def captions(*texts: str, model: str = "") -> embedder_pb2.EmbedCaptionsRequest:
    return embedder_pb2.EmbedCaptionsRequest(captions=texts, model=model)


def vector(result: embedder_pb2.EmbedResult) -> NDArray[np.float32]:
    assert result.WhichOneof("result") == "vector", result.error
    return np.frombuffer(result.vector, "<f4")


async def test_images_become_the_bare_networks_vectors_in_order(
    serving: Serving, bare: Bare
) -> None:
    async with serving() as service:
        answer = await service.stub.EmbedImages(images(*range(40)))
    assert answer.model == bare.card.version
    assert len(answer.results) == 40
    for seed, result in enumerate(answer.results):
        assert vector(result) @ bare.image(random_pixels(seed)) > 0.99999


async def test_one_broken_image_is_an_error_in_its_place(serving: Serving, bare: Bare) -> None:
    request = images(1, 2, 3)
    request.images[1] = request.images[1][:60]
    request.images.append(b"")
    async with serving() as service:
        results = (await service.stub.EmbedImages(request)).results
    assert vector(results[0]) @ bare.image(random_pixels(1)) > 0.99999
    assert vector(results[2]) @ bare.image(random_pixels(3)) > 0.99999
    for broken, reason in ((results[1], "decoded"), (results[3], "0 bytes")):
        assert broken.error.code == "INVALID_ARGUMENT"
        assert reason in broken.error.message


async def test_captions_become_the_bare_networks_vectors(serving: Serving, bare: Bare) -> None:
    texts = ["a woman in a red dress", "A MAN, with a bag!", "coat " * 100]
    async with serving() as service:
        results = (await service.stub.EmbedCaptions(captions(*texts))).results
        alone = (await service.stub.EmbedCaptions(captions(texts[1]))).results
    for text, result in zip(texts, results, strict=True):
        assert vector(result) @ bare.caption(text) > 0.99999
    assert vector(alone[0]) @ vector(results[1]) > 0.99999


async def test_unknown_words_are_reported_once_and_the_rest_is_embedded(
    serving: Serving, bare: Bare
) -> None:
    text = "a Violet woman with violet hair"
    async with serving() as service:
        (result,) = (await service.stub.EmbedCaptions(captions(text))).results
    assert list(result.unknown_words) == ["violet", "hair"]
    assert vector(result) @ bare.caption(text) > 0.99999


SAYS_NOTHING = {
    "": "caption has no words",
    " \n\t": "caption has no words",
    "?!...": "caption has no words",
    "zork 一个": r"known .*\(zork, 一个\)",
    "\x00\x1b": "known",
    "🚶🏽": "known",
    "man " * 201: "words of a caption: 201 words are more than the limit of 200",
    "man " * 501: r"caption has 2,004 characters; at most 2,000",
}


async def test_a_caption_that_says_nothing_is_an_error_in_its_place(serving: Serving) -> None:
    async with serving() as service:
        request = captions("a man", *SAYS_NOTHING, "a bag")
        first, *refused, last = (await service.stub.EmbedCaptions(request)).results
    assert vector(first) @ vector(last) < 1
    for result, reason in zip(refused, SAYS_NOTHING.values(), strict=True):
        assert result.error.code == "INVALID_ARGUMENT"
        assert re.search(reason, result.error.message), result.error.message


async def test_a_request_without_items_has_no_results(serving: Serving) -> None:
    async with serving() as service:
        assert list((await service.stub.EmbedImages(images())).results) == []
        assert list((await service.stub.EmbedCaptions(captions())).results) == []


async def test_models_are_found_by_name_and_version_and_the_first_is_preferred(
    serving: Serving, model_directory: Path, bare: Bare, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other", seed=1)
    async with serving(models=f"{model_directory}, {tmp_path / 'other'}") as service:

        async def answers(model: str) -> str:
            return str((await service.stub.EmbedCaptions(captions("man", model=model))).model)

        assert await answers("") == bare.card.version
        assert await answers(bare.card.name) == bare.card.version
        assert await answers(other.name) == await answers(other.version) == other.version
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answers("clip")
        model = await service.stub.GetModel(embedder_pb2.GetModelRequest(model=other.name))
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    for card in (bare.card, other):
        assert f"{card.name} ({card.version})" in str(refused.value.details())
    assert model == embedder_pb2.Model(
        name=other.name,
        version=other.version,
        dimension=DIMENSION,
        device="cpu",
        precision="float32",
        vocabulary_size=len(other.vocabulary),
        image_size=embedder_pb2.ImageSize(height=64, width=32),
    )


async def test_many_callers_at_once_get_their_own_vectors_from_shared_batches(
    serving: Serving, bare: Bare
) -> None:
    async with serving(max_batch=8) as service:
        before = batches()
        answers = await asyncio.gather(
            *(service.stub.EmbedImages(images(seed, seed + 1)) for seed in range(60)),
            *(service.stub.EmbedCaptions(captions("a red dress")) for _ in range(60)),
        )
        assert batches() - before < 90
    for seed, answer in enumerate(answers[:60]):
        for place, result in enumerate(answer.results):
            assert vector(result) @ bare.image(random_pixels(seed + place)) > 0.99999
    for answer in answers[60:]:
        assert vector(answer.results[0]) @ bare.caption("a red dress") > 0.99999


def batches() -> float:
    """Forward passes so far, of images and of captions."""
    labels = [{"model": "random-0", "modality": modality} for modality in ("images", "captions")]
    name = "passerby_embedder_batch_items_count"
    return sum(REGISTRY.get_sample_value(name, label) or 0 for label in labels)


async def test_a_full_queue_refuses_calls_and_answers_the_rest(
    serving: Serving,
) -> None:
    async with serving(max_queue=8) as service:
        calls = [service.stub.EmbedImages(images(*range(8))) for _ in range(12)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert 0 < len(refused) < 12
        for error in refused:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "in a moment" in str(error.details())
        assert len((await service.stub.EmbedImages(images(*range(8)))).results) == 8
        with pytest.raises(grpc.aio.AioRpcError, match="split the request") as too_long:
            await service.stub.EmbedImages(images(*range(9)))
    assert too_long.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_queue_full_of_bulk_has_room_for_a_search(serving: Serving) -> None:
    bulk = embedder_pb2.EmbedImagesRequest(images=images(*range(8)).images, bulk=True)
    async with serving(max_queue=8) as service:
        calls = [service.stub.EmbedImages(bulk) for _ in range(6)]
        search = service.stub.EmbedImages(images(*range(8)))
        *answers, found = await asyncio.gather(*calls, search, return_exceptions=True)
    assert any(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
    assert isinstance(found, embedder_pb2.EmbedImagesResponse), found
    assert all(result.vector for result in found.results)


async def test_a_call_that_misses_its_deadline_leaves_the_queue(serving: Serving) -> None:
    async with serving(max_queue=600, max_batch=1) as service:
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await service.stub.EmbedImages(images(*range(600)), timeout=0.3)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(10):
            while REGISTRY.get_sample_value(
                "passerby_embedder_in_hand", {"model": "random-0", "modality": "images"}
            ):
                await asyncio.sleep(0.01)
        assert len((await service.stub.EmbedImages(images(1))).results) == 1


async def test_an_embedder_that_loads_its_models_is_alive_but_not_ready(
    serving: Serving, model_directory: Path, tmp_path: Path
) -> None:
    """The weights come through a pipe, so that loading takes as long as this test likes."""
    shutil.copytree(model_directory, tmp_path / "slow")
    weights = tmp_path / "slow" / "weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    os.mkfifo(weights)
    async with serving(ready=False, models=str(tmp_path / "slow")) as service:
        assert await service.serves("live")
        assert not await service.serves("")
        with pytest.raises(grpc.aio.AioRpcError, match="still loading") as early:
            await service.stub.EmbedImages(images(1))
        assert early.value.code() == grpc.StatusCode.UNAVAILABLE
        await asyncio.to_thread(weights.write_bytes, content)
        async with asyncio.timeout(60):
            while not await service.serves(""):
                await asyncio.sleep(0.02)
        assert len((await service.stub.EmbedImages(images(1))).results) == 1


async def test_a_broken_model_ends_the_start_with_the_file_and_the_remedy(
    serving: Serving, model_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_directory, tmp_path / "broken")
    with (tmp_path / "broken" / "weights.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    for name, reason in (("broken", "damaged"), ("missing", "a model directory holds")):
        with pytest.raises(CannotStart, match=rf"{name}/.*{reason}"):
            async with serving(models=str(tmp_path / name)):
                pass


async def test_a_missing_device_ends_the_start(serving: Serving) -> None:
    with pytest.raises(CannotStart, match="EMBEDDER_DEVICE=cuda:77"):
        async with serving(device="cuda:77"):
            pass


async def test_calls_in_hand_are_answered_when_the_embedder_stops(serving: Serving) -> None:
    async with serving(max_batch=2) as service:
        calls = [asyncio.ensure_future(service.stub.EmbedImages(images(*range(20))))]
        labels = {"model": "random-0", "modality": "images"}
        while not REGISTRY.get_sample_value("passerby_embedder_in_hand", labels):
            await asyncio.sleep(0.001)
        service.stop.set()
        answers = await asyncio.gather(*calls)
        await service.ended
    assert all(vector(result).size == DIMENSION for answer in answers for result in answer.results)
