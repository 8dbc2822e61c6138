# The indexer: the queue -> vectors -> names in Redis, vectors in Milvus. Carries no torch.
# Built by `make images`, from the repository's root.

# Set BASE to a base image that holds your certificates or package mirror, or to pin one by digest.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# A layer of its own for what is large and seldom changes. Compiled here, because a read-only
# root cannot be compiled into later; by hash, because layers may lose the files' times.
# pandas' own tests are a tenth of the image, and nothing imports them.
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_NO_CACHE=1
RUN python3 -m venv uv \
 && uv/bin/python -m pip install --no-cache-dir --constraint constraints.txt uv \
 && python3 -m venv --without-pip /opt/venv \
 && uv/bin/uv pip install --python /opt/venv/bin/python --compile-bytecode \
    --constraint constraints.txt --requirements pyproject.toml --extra indexer --extra s3 \
 && rm -r /opt/venv/lib/python3*/site-packages/pandas/tests
COPY README.md LICENSE ./
COPY passerby passerby
COPY services/__init__.py services/
COPY services/runtime services/runtime
COPY services/gallery services/gallery
COPY services/indexer services/indexer
RUN uv/bin/uv pip install --python /opt/venv/bin/python --target /opt/passerby --no-deps \
    --compile-bytecode --build-constraints constraints.txt .

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/passerby /opt/passerby
# Libraries look for configuration in HOME; none is there. In a pod's first seconds its network
# policies may let nothing through: the command line waits for its peers.
ENV PATH=/opt/passerby/bin:/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/passerby \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    INDEXER_HOST=0.0.0.0 \
    PASSERBY_CONNECT_TIMEOUT_S=30
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="passerby/indexer" \
      org.opencontainers.image.description="Passerby's indexer: turns pushed images into a gallery" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
EXPOSE 50053
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.indexer"]
