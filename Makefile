# The entry point to everything; `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Dozens of processes start here, and what they import would be compiled anew in each.
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo up down test lint bench fuzz proto limits clean images test-images test-cluster chart chart-deps manifests

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/local ## Start everything, index a gallery of drawn people, search it; stays up until Ctrl-C
	@python -m deploy.local demo

up: $(VENV)/local ## Start the local stack in the background (data in .passerby/)
	@python -m deploy.local up

down: ## Stop the local stack; the data stays
	@if [ -x $(BIN)/python ]; then python -m deploy.local down; fi

test: lint ## Lint, type check and run the whole test suite
	@# Two workers: of two threads that share a forward pass, one would wait for the other's core.
	@OMP_NUM_THREADS=1 python -m pytest -n 2 --no-loadscope-reorder

lint: $(VENV)/dev ## Ruff and mypy
	@ruff check . && ruff format --check . && mypy

bench: $(VENV)/dev ## Measure speed, with plain loops beside it in the same run
	@python -m tests.bench

INPUTS ?= 20000
fuzz: $(VENV)/dev ## Try damaged inputs, INPUTS for each target of tests/fuzz; what breaks is listed
	@python -m tests.fuzz --inputs $(INPUTS)

proto: $(VENV)/dev ## Regenerate passerby/v1 and the HTTP API's openapi.json from proto/
	@cd proto && python -m grpc_tools.protoc -I . --python_out=.. --pyi_out=.. passerby/v1/*.proto
	@cd proto && python -m grpc_tools.protoc -I . --grpc_python_out=.. --mypy_grpc_out=quiet:.. \
		passerby/v1/embedder.proto passerby/v1/search.proto
	@# -P: proto/passerby is no package to import from.
	@cd proto && python -m grpc_tools.protoc -I . --include_imports --include_source_info \
		--descriptor_set_out=/dev/stdout passerby/v1/search.proto \
		| python -P -m services.query.http.openapi > ../services/query/http/openapi.json

limits: $(VENV)/dev ## Write docs/operations/limits.md from the code that enforces the limits
	@python -m deploy.limits

# TAG is the one that the chart asks for. TORCH_CPU is empty where PyTorch's own index cannot be
# reached: the CPU variant is then as large as the other.
TAG ?= $(shell sed -n 's/^appVersion: //p' deploy/helm/passerby/Chart.yaml)
TORCH_CPU ?= cpu
BUILDER ?= $(shell for tool in docker podman buildah; do \
	if $$tool info >/dev/null 2>&1; then echo $$tool; break; fi; done)
# name of the service, end of its tag, more arguments
build = $(BUILDER) build $(BUILD_FLAGS) $(if $(BASE),--build-arg BASE=$(BASE)) $(3) \
	--build-arg VERSION=$(TAG) --build-arg REVISION=$(shell git rev-parse HEAD) \
	--file deploy/docker/$(1).Dockerfile \
	--tag $(if $(REGISTRY),$(REGISTRY)/)passerby/$(1):$(TAG)$(2) .

IMAGES ?= indexer query embedder-cuda embedder-cpu
images: $(IMAGES:%=image-%) ## Build the services' images (IMAGES, TAG, REGISTRY, BASE) with docker, podman or buildah

.PHONY: builder image-indexer image-query image-embedder-cuda image-embedder-cpu
builder:
	@test -n "$(BUILDER)" || { echo "building images needs docker, podman or buildah: none of them works here"; exit 1; }
image-indexer: builder
	$(call build,indexer)
image-query: builder
	$(call build,query)
image-embedder-cuda: builder
	$(call build,embedder,-cuda)
image-embedder-cpu: builder
	$(call build,embedder,-cpu,--build-arg TORCH_BACKEND=$(TORCH_CPU))

test-images: $(VENV)/dev ## Build the images and run them as Kubernetes would, with docker or podman
	@python -m pytest -m images tests/deploy/test_container_images.py

test-cluster: $(VENV)/dev ## Run the scenarios of tests/cluster on a real Kubernetes (KUBECONFIG, or root here)
	@python -m tests.cluster test $(SCENARIOS)

chart: $(VENV)/dev ## Generate the chart's tables and schema, lint it and render every profile
	@python -m deploy.helm generate && python -m deploy.helm check

chart-deps: $(VENV)/dev ## Fetch the official Milvus chart (MILVUS_CHARTS=the URL of its repository)
	@test -n "$(MILVUS_CHARTS)" || { echo "name the repository that Milvus's documentation gives for Helm: make chart-deps MILVUS_CHARTS=https://..."; exit 1; }
	@python -m deploy.helm deps $(MILVUS_CHARTS)

NAMESPACE ?= default
manifests: $(VENV)/dev ## Write dist/manifests/<profile>.yaml for kubectl (NAMESPACE), from the chart
	@python -m deploy.helm manifests dist/manifests --namespace $(NAMESPACE)

clean: down ## Stop the stack and remove its data and the environment
	rm -rf .passerby $(VENV)

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Passerby needs Python 3.11 or newer; name one with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

$(VENV)/local: $(BIN)/uv pyproject.toml constraints.txt
	@echo "Installing Passerby into $(VENV) (PyTorch is large; once only) ..."
	@$(UV) --editable '.[local]'
	@touch $@

$(VENV)/dev: $(BIN)/uv pyproject.toml constraints.txt
	@$(UV) --editable '.[dev]'
	@touch $@ $(VENV)/local
