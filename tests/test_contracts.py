"""The contracts: the generated code is what proto/ says, and each package keeps to its place."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    for part in ("proto", "Makefile", "pyproject.toml", "constraints.txt"):
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part)
        else:
            shutil.copy(source, tmp_path / part)
    (tmp_path / "passerby" / "v1").mkdir(parents=True)
    # The environment that runs this test stands in for a new one.
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))

    subprocess.run(["make", "proto", "--old-file=.venv/dev"], cwd=tmp_path, check=True)

    committed = {
        path.name: path.read_text()
        for path in (REPOSITORY / "passerby" / "v1").glob("*_pb2*")
        if path.suffix in {".py", ".pyi"}
    }
    generated = {
        path.name: path.read_text() for path in (tmp_path / "passerby" / "v1").glob("*_pb2*")
    }
    assert generated == committed


@pytest.mark.parametrize(
    "package", ["services.indexer.__main__", "services.query.__main__", "passerby"]
)
def test_no_torch_outside_the_embedder(package: str) -> None:
    script = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_client_needs_no_service_package() -> None:
    script = (
        "import sys, passerby, passerby.cli;"
        "sys.exit(bool({'services', 'pymilvus', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
