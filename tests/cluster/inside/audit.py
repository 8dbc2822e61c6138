"""Prints what Milvus and Redis hold of a gallery, not what a search finds; runs in a query pod."""

import asyncio
import json
import os
import sys

from services.gallery.collection_names import alias_name
from services.gallery.milvus_connection import Milvus
from services.gallery.names import Names
from services.gallery.redis_connection import connect


async def main(gallery: str) -> None:
    redis = connect(os.environ["REDIS_URL"], 10, os.environ.get("REDIS_PASSWORD", ""))
    milvus = Milvus(os.environ["MILVUS_URI"], os.environ.get("MILVUS_TOKEN", ""), 30)
    alias = alias_name(gallery)
    ids = [id_ async for page in milvus.pages(alias) for id_ in page]
    filenames = await Names(redis).filenames_of(gallery, ids)
    print(json.dumps({"rows": await milvus.count(alias), "filenames": filenames}))
    await milvus.close()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
