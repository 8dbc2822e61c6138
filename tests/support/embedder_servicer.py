"""An Embedder service without a model, whose answers a test overrides."""

from typing import Any

from passerby.v1 import embedder_pb2, embedder_pb2_grpc


class EmptyEmbedder(embedder_pb2_grpc.EmbedderServicer):
    """Answers every call with nothing in it but a name."""

    async def EmbedImages(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedImagesRequest, context: Any
    ) -> embedder_pb2.EmbedImagesResponse:
        return embedder_pb2.EmbedImagesResponse()

    async def EmbedCaptions(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedCaptionsRequest, context: Any
    ) -> embedder_pb2.EmbedCaptionsResponse:
        return embedder_pb2.EmbedCaptionsResponse()

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.Model:
        return embedder_pb2.Model(name="example")
