"""What stands in for Python's own image, which no package registry has: Debian with its Python."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

NAME = "localhost/passerby/base:bookworm"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
# Where programs in it find this machine's certificates.
VARIABLES = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), f"/{_BUNDLE}")


def make_root(folder: Path) -> None:
    """The image's files, by debootstrap, as root."""
    packages = "--include=ca-certificates,python3,python3-venv"
    subprocess.run(["debootstrap", "--variant=minbase", packages, "bookworm", folder], check=True)
    for rubbish in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man",
                    "usr/share/info", "usr/share/locale"):  # fmt: skip
        shutil.rmtree(folder / rubbish)
        (folder / rubbish).mkdir()
    trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if trusted:
        shutil.copyfile(trusted, folder / _BUNDLE)
    (folder / "usr/bin/python").symlink_to("python3")
