"""Embeds a query in the gallery's space, or tells the caller what to change."""

import asyncio

from passerby.v1 import search_pb2
from services.runtime.embedder_client import EmbedderClient, Embedding, Rejected
from services.runtime.errors import InvalidRequest, WrongModel


async def embed_query(
    request: search_pb2.SearchRequest, version: str, embedder: EmbedderClient, deadline: float
) -> Embedding:
    """Embeds the request's caption or image with the model `version`; raises a ServiceError.

    deadline: time of the event loop.
    """
    field = "caption" if request.WhichOneof("query") == "caption" else "image"
    timeout_s = max(0.001, deadline - asyncio.get_running_loop().time())
    try:
        if field == "caption":
            (result,) = await embedder.embed_captions(
                [request.caption], version=version, timeout_s=timeout_s
            )
        else:
            (result,) = await embedder.embed_images(
                [request.image], version=version, timeout_s=timeout_s
            )
    except WrongModel as error:
        raise WrongModel(
            f"the gallery is embedded with model {version}, which the embedder does not serve: "
            "add that model's directory to EMBEDDER_MODELS, or push the images again to embed "
            f"them with the present one ({error})"
        ) from error
    if isinstance(result, Rejected):
        raise InvalidRequest(f"{field}: {result.reason}")
    return result
