"""How programs are built of their Go modules, into a folder that is kept between runs.

No package registry here has them as binaries.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine.shell import Words, run

_GO = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}


@dataclass(frozen=True)
class Program:
    """Programs of one module, or the one that `source` is."""

    module: str
    version: str
    packages: tuple[str, ...] = ()
    """Below the module; each is named after its folder."""
    name: str = ""
    """Of a single program whose folder is called otherwise."""
    stamps: tuple[str, ...] = ()
    """Variables that the linker sets."""
    tags: str = ""
    """What is built of it, where not all of it is."""
    source: str = ""
    """A main package of our own that imports the module."""


@dataclass(frozen=True)
class Recipe:
    """Programs that are built together, and the kinds of objects that they know."""

    programs: tuple[Program, ...]
    kinds: tuple[tuple[str, str, str], ...]
    """Definitions: a module, its version, and which of its files (with wildcards)."""

    @property
    def folder(self) -> Path:
        """Where the programs of these versions are, once they are built."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        recipe = Path(__file__).read_text() + repr(self)
        return cache / "passerby" / "cluster" / hashlib.sha256(recipe.encode()).hexdigest()[:12]

    def build(self) -> Path:
        """The folder of the programs; they are built if they are not there."""
        target = self.folder
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix="unfinished-"))
        try:
            for program in self.programs:
                print(f"building {program.module} {program.version}", flush=True)
                _build(program, unfinished)
            (unfinished / "kinds").mkdir()
            for module, version, files in self.kinds:
                for file in sorted(_source(module, version).glob(files)):
                    shutil.copy(file, unfinished / "kinds")
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return target


def _build(program: Program, target: Path) -> None:
    """As a dependency of a module of our own that repeats the other's replacements: Go refuses to
    install a module that has some by its name."""
    packages = [f"{program.module}/{package}".removesuffix("/.") for package in program.packages]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "go.mod").write_text(_go_mod(program))
        (work / "main.go").write_text(program.source or _importing(packages))
        # -e: main packages are no packages to import, which only matters to those who do.
        run("go", "mod", "tidy", "-e", cwd=work, env=_GO)
        stamps = " ".join(f"-X {stamp}" for stamp in program.stamps)
        flags = ["-tags", program.tags, "-ldflags", f"-s -w {stamps}"]
        into: Words = [*flags, "-o", target / program.name]
        run("go", "build", *into, *(packages or ["."]), cwd=work, env=_GO)


def _source(module: str, version: str) -> Path:
    answer = run("go", "mod", "download", "-json", f"{module}@{version}")
    return Path(json.loads(answer)["Dir"])


def _importing(packages: list[str]) -> str:
    lines = "\n".join(f'\t_ "{package}"' for package in packages)
    return f"//go:build tools\n\npackage build\n\nimport (\n{lines}\n)\n"


def _go_mod(program: Program) -> str:
    theirs = (_source(program.module, program.version) / "go.mod").read_text()
    (go,) = re.findall(r"^go (\S+)$", theirs, re.MULTILINE)
    # Kubernetes replaces its own parts by folders that its module lacks, and publishes each as a
    # module of the same minor version.
    parts = re.findall(r"^\t?(?:replace )?(\S+) => \./staging/", theirs, re.MULTILINE)
    staging = program.version.replace("v1.", "v0.")
    lines = ["module build", f"go {go}", f"require {program.module} {program.version}"]
    lines += [f"replace {part} => {part} {staging}" for part in parts]
    lines += re.findall(r"^replace \S+ .*=> [^.].*$", theirs, re.MULTILINE)
    return "\n".join(lines) + "\n"
