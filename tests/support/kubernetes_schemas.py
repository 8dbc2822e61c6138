"""Is an object one that Kubernetes accepts? By the schemas of its three latest versions."""

import functools
import json
from typing import Any
from unittest.mock import patch

import kubernetes_validate
from kubernetes_validate import utils

LATEST_MINORS = utils.all_versions()[-3:]
# The package would parse megabytes for each object.
_contents = functools.cache(utils.schema_contents)


def assert_valid(item: dict[str, Any]) -> None:
    """For kinds of Kubernetes' own. Raises the package's ValidationError."""
    _assert_valid(json.dumps(item, sort_keys=True))


@functools.cache
def _assert_valid(text: str) -> None:
    """Once for each object that differs."""
    with patch.object(utils, "schema_contents", _contents):
        for minor in LATEST_MINORS:
            kubernetes_validate.validate(json.loads(text), minor, strict=True)
