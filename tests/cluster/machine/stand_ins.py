"""Images that no package registry has, made of packages: a base for ours, Redis 7.0 under Valkey's
name, Milvus 2.3.5 (the wheel `milvus`) behind the command of 2.6's image; and as kube-state-metrics
a script that measures what the alerts ask for.

What they cannot show: Milvus 2.6's own behaviour, its etcd and MinIO as pods, and its image's user
and file system.
"""

import lzma
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.cluster.machine import buildah
from tests.cluster.machine.node import PAUSE
from tests.cluster.machine.shell import run
from tests.support import base_image

VALKEY = "docker.io/valkey/valkey:9.0.1"
MILVUS = "docker.io/milvusdb/milvus:v2.6.15"
KUBE_STATE_METRICS = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.17.0"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def make_base(folder: Path) -> None:
    root, tar = folder / "root", folder / "root.tar"
    base_image.make_root(root)
    run("tar", "-C", root, "-cf", tar, ".")
    variables = {**base_image.VARIABLES, "PATH": _PATH}
    buildah.commit(base_image.NAME, "scratch", {tar: "/"}, variables=variables)


def make_valkey(folder: Path) -> None:
    programs, libraries = folder / "programs", folder / "libraries"
    programs.mkdir()
    libraries.mkdir()
    for name in ("redis-server", "redis-cli"):
        program = shutil.which(name)
        assert program, name
        shutil.copy(Path(program).resolve(), programs / name)
        for line in run("ldd", program).splitlines():
            library = line.rpartition("=>")[2].partition("(")[0].strip()
            # Those of the C library are the base's.
            if library.startswith("/") and not Path(library).name.startswith(
                ("libc.", "libm.", "ld-")
            ):
                shutil.copy(library, libraries)
    files = {programs: "/usr/bin", libraries: "/usr/lib/x86_64-linux-gnu"}
    buildah.commit(VALKEY, base_image.NAME, files)


def make_milvus(folder: Path) -> None:
    root = folder / "milvus"
    configs = root / "configs"
    configs.mkdir(parents=True)
    packages = ["milvus==2.3.5", "pyyaml"]
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", folder, *packages], check=True)
    (milvus,) = folder.glob("milvus-*.whl")
    (yaml,) = folder.glob("[pP]y[yY][aA][mM][lL]-*.whl")
    _unpack_milvus(milvus, root)
    python = folder / "python"
    with zipfile.ZipFile(yaml) as wheel:
        wheel.extractall(python)
    command = _command(folder, "milvus_2_6.py")
    files = {
        root: "/milvus",
        python: "/usr/local/lib/python3.11/dist-packages",
        command: "/usr/local/bin/milvus",
    }
    buildah.commit(MILVUS, base_image.NAME, files)


def make_kube_state_metrics(folder: Path) -> None:
    place = "/kube-state-metrics"
    files = {_command(folder, "kube_state_metrics.py"): place}
    buildah.commit(KUBE_STATE_METRICS, base_image.NAME, files, entrypoint=place)


def _command(folder: Path, script: str) -> Path:
    """A script of this folder as a program."""
    command = folder / "command"
    shutil.copy(Path(__file__).with_name(script), command)
    command.chmod(0o755)
    return command


def _unpack_milvus(file: Path, root: Path) -> None:
    programs = root / "bin"
    programs.mkdir()
    with zipfile.ZipFile(file) as wheel:
        for name in wheel.namelist():
            if name.endswith(".lzma"):
                program = programs / Path(name).stem
                program.write_bytes(lzma.decompress(wheel.read(name)))
                program.chmod(0o755)
        configs = root / "configs"
        template = wheel.read("milvus/data/config.yaml.template")
        (configs / "template.yaml").write_bytes(template)
        (configs / "glog.conf").write_bytes(wheel.read("milvus/data/glog.conf"))


def make_pause(folder: Path) -> None:
    """What holds a pod's namespaces."""
    source, program = folder / "pause.c", folder / "pause"
    source.write_text(_PAUSE)
    run("gcc", "-static", "-O2", "-o", program, source)
    buildah.commit(PAUSE, "scratch", {program: "/pause"}, entrypoint="/pause")


MAKERS = {
    base_image.NAME: make_base,
    VALKEY: make_valkey,
    MILVUS: make_milvus,
    KUBE_STATE_METRICS: make_kube_state_metrics,
    PAUSE: make_pause,
}


def make(image: str) -> None:
    """Does nothing where it was made before."""
    if not buildah.exists(image):
        print(f"making a stand-in for {image}", flush=True)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            MAKERS[image](Path(folder))
