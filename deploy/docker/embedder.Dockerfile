# The embedder: images and captions -> vectors. torch lives here and nowhere else.
# Built by `make images`, from the repository's root, in two variants.

# Set BASE to a base image that holds your certificates or package mirror, or to pin one by digest.
# CUDA's libraries come with torch: a GPU node needs its driver and NVIDIA's container runtime.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# Which build of torch: empty for the package index's own (CUDA), or a name that uv knows: `cpu`
# for a small image without CUDA, `cu126` and the like for older drivers.
ARG TORCH_BACKEND=
# A layer of its own for what is large and seldom changes. Compiled here, because a read-only
# root cannot be compiled into later; by hash, because layers may lose the files' times.
# Triton is 0.9 GB that cannot work here: it calls a C compiler at run time. Where it is installed
# torch takes it for some products on a GPU all the same, so it has to go.
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_NO_CACHE=1
RUN python3 -m venv uv \
 && uv/bin/python -m pip install --no-cache-dir --constraint constraints.txt uv \
 && python3 -m venv --without-pip /opt/venv \
 && uv/bin/uv pip install --python /opt/venv/bin/python --compile-bytecode \
    ${TORCH_BACKEND:+--torch-backend ${TORCH_BACKEND}} \
    --constraint constraints.txt --requirements pyproject.toml --extra embedder \
 && uv/bin/uv pip uninstall --python /opt/venv/bin/python triton
COPY README.md LICENSE ./
COPY passerby passerby
COPY services/__init__.py services/
COPY services/runtime services/runtime
COPY services/embedder services/embedder
RUN uv/bin/uv pip install --python /opt/venv/bin/python --target /opt/passerby --no-deps \
    --compile-bytecode --build-constraints constraints.txt .

FROM ${BASE}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/passerby /opt/passerby
# Enough for a first search; another model is mounted and named in EMBEDDER_MODELS.
COPY models/demo /opt/models/demo
# Libraries look for configuration in HOME; none is there.
ENV PATH=/opt/passerby/bin:/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/passerby \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    EMBEDDER_HOST=0.0.0.0 \
    EMBEDDER_MODELS=/opt/models/demo
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="passerby/embedder" \
      org.opencontainers.image.description="Passerby's embedder: images and captions to vectors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
EXPOSE 50051
STOPSIGNAL SIGTERM
USER 10001:10001
ENTRYPOINT ["python", "-m", "services.embedder"]
