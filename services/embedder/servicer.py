"""The Embedder service over gRPC: each call is answered by the model that it asks for."""

# grpc's classes take type parameters in their stubs only, not at run time.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.served_model import ServedModel
from services.runtime.errors import Unavailable, WrongModel

NAME = embedder_pb2.DESCRIPTOR.services_by_name["Embedder"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """Answers for the models that are loaded so far; the first one is preferred."""

    def __init__(self) -> None:
        self.models: Sequence[ServedModel] = ()

    async def EmbedImages(  # noqa: N802
        self, request: embedder_pb2.EmbedImagesRequest, _context: Context
    ) -> embedder_pb2.EmbedImagesResponse:
        model = self._model(request.model)
        results = await model.embed_images(request.images, bulk=request.bulk)
        return embedder_pb2.EmbedImagesResponse(model=model.card.version, results=results)

    async def EmbedCaptions(  # noqa: N802
        self, request: embedder_pb2.EmbedCaptionsRequest, _context: Context
    ) -> embedder_pb2.EmbedCaptionsResponse:
        model = self._model(request.model)
        results = await model.embed_captions(request.captions)
        return embedder_pb2.EmbedCaptionsResponse(model=model.card.version, results=results)

    async def GetModel(  # noqa: N802
        self, request: embedder_pb2.GetModelRequest, _context: Context
    ) -> embedder_pb2.Model:
        return self._model(request.model).description

    def _model(self, wanted: str) -> ServedModel:
        """By name or version, the preferred one for ''. Raises WrongModel and Unavailable."""
        if not self.models:
            raise Unavailable("the embedder is still loading its models; try again in a moment")
        for model in self.models:
            if wanted in ("", model.card.name, model.card.version):
                return model
        served = ", ".join(f"{model.card.name} ({model.card.version})" for model in self.models)
        raise WrongModel(f"model: {wanted!r} is not served here; this embedder serves {served}")
