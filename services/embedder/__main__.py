"""`python -m services.embedder`: the embedder's process."""

from services.embedder.server import serve
from services.embedder.settings import EmbedderSettings
from services.runtime.process import run

if __name__ == "__main__":
    run("embedder", EmbedderSettings, serve)
