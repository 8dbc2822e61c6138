"""The contracts: the generated code is what proto/ says, and each package keeps to its place."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
_NOTHING = frozenset[str]()
_SHARED = frozenset({"services.gallery", "services.runtime", "passerby"})
_NETWORK = frozenset({"services.embedder.dcpl", "services.embedder.images"})
# What each package may import of ours, beside itself. Whoever lies in two belongs to the inner.
MAY_IMPORT = {
    "passerby": _NOTHING,
    "services": _NOTHING,
    "services.runtime": {"passerby"},
    "services.gallery": {"services.runtime", "passerby"},
    "services.embedder": _NETWORK | {"services.runtime", "passerby"},
    "services.embedder.dcpl": {"passerby"},
    "services.embedder.images": {"passerby"},
    "services.indexer": _SHARED,
    "services.query": _SHARED,
    "training": _NETWORK | {"training.synthetic", "passerby"},
    "training.synthetic": _NOTHING,
    "deploy.local": {"passerby", "training.synthetic"},
    # Makes the table of limits.
    "deploy.limits": _SHARED
    | _NETWORK
    | {"services.embedder", "services.indexer", "services.query"},
    # Makes the chart's tables and schema from the services' settings.
    "deploy.helm": _SHARED | {"services.embedder", "services.indexer", "services.query"},
}
OURS = ("passerby", "services", "training", "deploy", "tests")

LONGEST_FILE, LONGEST_FUNCTION = 400, 50

# redis-py imports OpenTelemetry's metrics wherever they are installed, and so its name alone.
TRACING = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.propagate")


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    for part in ("proto", "Makefile", "pyproject.toml", "constraints.txt"):
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part)
        else:
            shutil.copy(source, tmp_path / part)
    (tmp_path / "passerby" / "v1").mkdir(parents=True)
    openapi = Path("services", "query", "http", "openapi.json")
    (tmp_path / openapi).parent.mkdir(parents=True)
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
    assert (tmp_path / openapi).read_text() == (REPOSITORY / openapi).read_text()


def files(*folders: str) -> list[Path]:
    """Our Python files, relative to the repository; not the generated ones."""
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    relative = [path.relative_to(REPOSITORY) for path in found]
    return sorted(path for path in relative if not path.is_relative_to("passerby/v1"))


def module_of(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of each import of ours, within functions as well."""
    for node in ast.walk(ast.parse((REPOSITORY / file).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}:{node.lineno}: a relative import"
            assert not node.level, f"{file}:{node.lineno}: a relative import"
            # `from services.embedder import images` is an import of services.embedder.images.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = list({name if is_module(name) else node.module for name in inner})
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.partition(".")[0] in OURS)


def is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def package_of(module: str) -> str:
    """The longest name in MAY_IMPORT that the module has or lies in, "" without one."""
    fitting = [name for name in MAY_IMPORT if f"{module}.".startswith(f"{name}.")]
    return max(fitting, key=len, default="")


def test_imports_point_one_way() -> None:
    packages = {file: package_of(module_of(file)) for file in files(*OURS[:-1])}
    homeless = [str(file) for file, package in packages.items() if not package]
    assert not homeless, f"in no package of MAY_IMPORT: {', '.join(homeless)}"
    assert not MAY_IMPORT.keys() - set(packages.values()), "a package that is gone"
    broken = [
        f"{file}:{line}: {package} -> {imported}"
        for file, package in packages.items()
        for line, imported in imports(file)
        if package_of(imported) not in {package, *MAY_IMPORT[package]}
    ]
    assert not broken, "\n".join(broken)


def test_tests_share_what_lies_in_support_and_nothing_else() -> None:
    """Not test modules, not conftests, not another folder's helpers."""
    broken = []
    for file in files("tests"):
        own_folder = f"tests.{file.parts[1]}."
        for line, imported in imports(file):
            private = imported.rpartition(".")[2].startswith(("test_", "conftest"))
            shared = f"{imported}.".startswith(("tests.support.", own_folder))
            if imported.startswith("tests") and (private or not shared):
                broken.append(f"{file}:{line}: {imported}")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("passerby.cli", {"services", "training", "torch", "numpy", "pymilvus", "opentelemetry"}),
        ("services.indexer.__main__", {"torch", "training", *TRACING}),
        ("services.query.__main__", {"torch", "training", *TRACING}),
        ("training.synthetic.__main__", {"torch", "services", "passerby"}),
    ],
)
def test_a_fresh_process_imports_no_more_than_it_needs(module: str, without: set[str]) -> None:
    script = f"import sys, {module}; print(*sorted({without!r} & sys.modules.keys()))"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


def test_files_are_short() -> None:
    lengths = {file: len((REPOSITORY / file).read_text().splitlines()) for file in files(*OURS)}
    broken = [f"{file}: {lines} lines" for file, lines in lengths.items() if lines > LONGEST_FILE]
    assert not broken, "\n".join(broken)


def test_functions_are_short() -> None:
    broken = [
        f"{file}:{node.lineno}: {node.name}: {lines} lines"
        for file in files(*OURS)
        for node in ast.walk(ast.parse((REPOSITORY / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert not broken, "\n".join(broken)
