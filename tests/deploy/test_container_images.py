"""The images, built by `make images` and run as Kubernetes would run them: `make test-images`.

Needs podman (or docker), some minutes and 20 GB. Without BASE the base image is made here, from
Debian's packages (debootstrap, as root). Where a sandbox forbids what a container runtime asks
for, and only the package index can be reached:

    make test-images BUILD_FLAGS='--isolation chroot' TORCH_CPU=
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from deploy.local.stack import REPOSITORY
from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from tests.support import base_image
from tests.support.base_image import NAME as STAND_IN
from tests.support.base_image import VARIABLES
from tests.support.processes import SERVING, free_port, wait_for_health

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

SERVICES = {
    "indexer": "localhost/passerby/indexer:tested",
    "query": "localhost/passerby/query:tested",
    "embedder-cuda": "localhost/passerby/embedder:tested-cuda",
    "embedder-cpu": "localhost/passerby/embedder:tested-cpu",
}
# What the chart leaves between SIGTERM and SIGKILL, roughly; who needs it all fails.
GRACE_S = 35

every_image = pytest.mark.parametrize("image", SERVICES)


def service_of(image: str) -> str:
    return image.partition("-")[0]


@dataclass(frozen=True)
class Tool:
    """podman or docker; both understand the same words."""

    name: str

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([self.name, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    @property
    def run_flags(self) -> list[str]:
        """As the chart's security contexts say it: nothing writable but /tmp, no privileges."""
        flags = ["--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--network=host"]
        flags.append("--security-opt=no-new-privileges")
        # Their default is to raise the limits, which not every sandbox allows.
        flags += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]
        if self.name == "podman":
            flags.append("--read-only-tmpfs=false")
        return flags

    @property
    def global_flags(self) -> list[str]:
        # crun, podman's default, refuses machines with both versions of cgroups.
        return ["--runtime=runc"] if self.name == "podman" and shutil.which("runc") else []

    def once(self, image: str, *command: str, user: str = "", **environment: object) -> str:
        """What a command prints in a container of its own; fails where the command does."""
        flags = [f"--env={name}={value}" for name, value in environment.items()]
        if user:
            flags.append(f"--user={user}")
        program, *arguments = command
        return self(
            *self.global_flags, "run", "--rm", *self.run_flags, *flags,
            f"--entrypoint={program}", SERVICES[image], *arguments,
        )  # fmt: skip

    @contextlib.contextmanager
    def running(self, image: str, **environment: object) -> Iterator[str]:
        """A container of the image, started as the image says; yields its id."""
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        container = self(
            *self.global_flags, "run", "--detach", *self.run_flags, *variables, SERVICES[image]
        ).strip()
        try:
            yield container
        finally:
            subprocess.run([self.name, "logs", container], check=False)  # shown where a test fails
            self("rm", "--force", container)

    def config(self, image: str) -> dict[str, object]:
        (found,) = json.loads(self("image", "inspect", SERVICES[image]))
        return {**found["Config"], "Size": found["Size"]}


def works(tool: str) -> bool:
    if not shutil.which(tool):
        return False
    return subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def tool() -> Tool:
    for name in ("podman", "docker"):
        if works(name):
            return Tool(name)
    raise RuntimeError("the images are tested with podman or docker: neither works here")


def make_stand_in(tool: Tool, folder: Path) -> None:
    base_image.make_root(folder)
    with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
        variables = [f"--change=ENV {name}={value}" for name, value in VARIABLES.items()]
        subprocess.run(
            [tool.name, "import", *variables, "-", STAND_IN], stdin=tar.stdout, check=True
        )
    assert tar.returncode == 0


@pytest.fixture(scope="session")
def base(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> str:
    if given := os.environ.get("BASE"):
        return given
    if not tool("image", "ls", "--quiet", STAND_IN).strip():
        folder = tmp_path_factory.mktemp("base") / "root"
        make_stand_in(tool, folder)
        shutil.rmtree(folder)
    return STAND_IN


@pytest.fixture(scope="session", autouse=True)
def images(tool: Tool, base: str) -> None:
    """All images, built by the target that people use."""
    arguments = [f"BUILDER={tool.name}", f"BASE={base}", "TAG=tested", "REGISTRY=localhost"]
    subprocess.run(["make", "images", *arguments], cwd=REPOSITORY, check=True)


@every_image
def test_an_image_says_what_it_is_and_how_it_runs(tool: Tool, image: str) -> None:
    config = tool.config(image)
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", f"services.{service_of(image)}"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    labels = config["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.version"] == "tested"
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


@pytest.mark.parametrize("image", ["indexer", "query"])
def test_indexer_and_query_are_small_and_carry_no_torch(tool: Tool, image: str) -> None:
    print(f"{image}: {tool.config(image)['Size']:,} bytes")
    assert int(str(tool.config(image)["Size"])) < 400_000_000
    assert tool.once(image, "find", "/", "-xdev", "-iname", "*torch*", user="0") == ""


@every_image
def test_build_tools_and_caches_are_not_left_in_the_image(tool: Tool, image: str) -> None:
    print(f"{image}: {tool.config(image)['Size']:,} bytes")
    builders = "gcc cc c++ clang ld make uv"
    found = tool.once(image, "sh", "-c", f"command -v {builders} || true", user="0")
    assert found == ""
    leftovers = "ls -A /tmp; ls -dA /build /root/.cache /var/cache/apt/* /var/lib/apt/lists/*"
    assert tool.once(image, "sh", "-c", f"({leftovers}) 2>/dev/null || true", user="0") == ""
    packages = tool.once(image, "sh", "-c", "ls /opt/venv/lib/python3*/site-packages").split()
    assert not {"pip", "uv", "pytest", "triton", "grpc_tools"} & set(packages)


IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
paths = [str(spec.cached) for spec in specs if spec and spec.has_location and spec.cached]
missing = [path for path in paths if path.startswith("/opt") and not pathlib.Path(path).exists()]
print(len(paths), "modules; not compiled:", missing)
sys.exit(bool(missing) or len(paths) < 100)
"""


@every_image
def test_every_module_is_importable_and_was_compiled(tool: Tool, image: str) -> None:
    tool.once(image, "python", "-c", IMPORT_ALL, f"services.{service_of(image)}")


@pytest.mark.parametrize("image", ["indexer", "query"])
def test_s3_can_be_named_as_a_store(tool: Tool, image: str) -> None:
    program = "import fsspec; print(fsspec.url_to_fs('s3://bucket/people', anon=True)[1])"
    assert tool.once(image, "python", "-c", program).strip() == "bucket/people"


def ports_for(image: str) -> dict[str, int]:
    variables = [f"{service_of(image).upper()}_PORT"]
    if image == "query":
        variables.append("QUERY_HTTP_PORT")
    return {name: free_port() for name in variables}


@every_image
def test_a_service_is_healthy_unprivileged_on_a_read_only_root_and_stops_when_told(
    tool: Tool, image: str
) -> None:
    ports = ports_for(image)
    port = ports[f"{service_of(image).upper()}_PORT"]
    with tool.running(image, **ports) as container:
        wait_for_health(f"127.0.0.1:{port}", SERVING, "live", timeout_s=120)
        pid = tool("inspect", "--format={{.State.Pid}}", container).strip()
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert status["Gid"].split() == ["10001"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        writable = {
            fields[4]
            for fields in map(str.split, Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
            if "rw" in fields[5].split(",") and not fields[4].startswith(("/proc", "/dev", "/sys"))
        }
        assert {"/tmp"} <= writable
        assert "/" not in writable

        tool("stop", f"--time={GRACE_S}", container)
        assert tool("inspect", "--format={{.State.ExitCode}}", container).strip() == "0"


@pytest.mark.parametrize("image", ["embedder-cuda", "embedder-cpu"])
def test_an_embedder_serves_the_baked_in_model_at_once(tool: Tool, image: str) -> None:
    ports = ports_for(image)
    with tool.running(image, **ports):
        port = ports["EMBEDDER_PORT"]
        wait_for_health(f"127.0.0.1:{port}", timeout_s=120)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            embedder = embedder_pb2_grpc.EmbedderStub(channel)
            model = embedder.GetModel(embedder_pb2.GetModelRequest(), timeout=30)
            request = embedder_pb2.EmbedCaptionsRequest(captions=["a woman in a red dress"])
            answer = embedder.EmbedCaptions(request, timeout=30)
        assert model.name == "demo"
        assert len(answer.results[0].vector) == 4 * model.dimension


def test_the_containers_together_pass_the_self_test_of_helm(
    tool: Tool, redis_url: str, milvus_uri: str
) -> None:
    ports = {image: ports_for(image) for image in ("embedder-cuda", "indexer", "query")}
    stores = {
        "REDIS_URL": redis_url,
        "MILVUS_URI": milvus_uri,
        "EMBEDDER_ADDRESS": f"127.0.0.1:{ports['embedder-cuda']['EMBEDDER_PORT']}",
    }
    with contextlib.ExitStack() as stack:
        for image, variables in ports.items():
            stack.enter_context(tool.running(image, **variables, **stores))
        query = ports["query"]["QUERY_PORT"]
        wait_for_health(f"127.0.0.1:{query}", timeout_s=120)
        client = {"PASSERBY_QUERY": f"127.0.0.1:{query}", "REDIS_URL": redis_url}
        print(tool.once("query", "python", "-m", "passerby.selftest", **client))
