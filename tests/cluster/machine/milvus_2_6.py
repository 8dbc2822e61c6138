#!/usr/bin/python3
"""Milvus 2.3.5 behind the command of 2.6's image: `milvus run standalone`, in the stand-in image.

Like that image it reads /milvus/configs/user.yaml over its own defaults.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path("/milvus/configs")
# The package's template leaves these open; everything else in it has a default.
FOLDERS = {
    "etcd_data_dir": "/var/lib/milvus/etcd",
    "local_storage_dir": "/var/lib/milvus/data",
    "rocksmq_data_dir": "/var/lib/milvus/rdb_data",
    "system_log_path": '""',
}


def filled_in(placeholder: re.Match[str]) -> str:
    """`{{ name }}` or `{{ name(type): default }}`."""
    name, _, default = placeholder[1].partition(":")
    return FOLDERS.get(name.strip(), default.strip())


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def main() -> None:
    template = (CONFIGS / "template.yaml").read_text()
    config = yaml.safe_load(re.sub(r"\{\{(.*?)\}\}", filled_in, template))
    user = CONFIGS / "user.yaml"
    merge(config, (yaml.safe_load(user.read_text()) if user.exists() else None) or {})
    config["log"] = {"level": "info", "stdout": True, "format": "text"}
    # The image's own folder may be read-only.
    folder = Path("/tmp/configs")
    folder.mkdir(exist_ok=True)
    (folder / "milvus.yaml").write_text(yaml.safe_dump(config))
    (folder / "glog.conf").write_text((CONFIGS / "glog.conf").read_text())
    os.environ["MILVUSCONF"] = str(folder)
    os.environ["LD_LIBRARY_PATH"] = "/milvus/bin"
    os.environ["DEPLOY_MODE"] = "STANDALONE"
    os.execv("/milvus/bin/milvus", ["milvus", "run", "standalone"])


if __name__ == "__main__":
    main()
