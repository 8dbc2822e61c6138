"""The generated parts of the chart: README.md's tables, values.schema.json and dashboard.json.

Values are described by the comments in values.yaml, settings by the services' own classes, so
nothing is described twice; a test fails when the files differ from what this writes.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from deploy.helm.dashboard import dashboard
from deploy.helm.schema import schema
from services.embedder.settings import EmbedderSettings
from services.gallery.settings import GallerySettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings
from services.runtime.settings import ServiceSettings, variable_of

CHART = Path(__file__).parent / "passerby"
ICON = Path(__file__).parents[2] / "services" / "query" / "web" / "icon.svg"
MARKER = "<!-- Below: written by `make chart`, from values.yaml and the services' settings. -->"
SETTINGS_INTRODUCTION = (
    "Environment variables of the services, each set at the place that is named; the defaults are "
    "the services' own. Variables that are not listed follow from the values above."
)

# Fields that follow from the rest of the values or from the pod; an operator does not set them.
SET_BY_THE_CHART = frozenset(
    [
        *("host", "port", "metrics_port", "drain_s", "http_port", "embedder_address"),
        "allowed_hosts",
        *("redis_url", "redis_password", "milvus_uri", "milvus_token", "images_uri"),
        *("models", "device", "threads", "consumer", "otlp_endpoint"),
    ]
)

# Place in values.yaml -> its settings class, and the class whose fields have another place.
SETTINGS: dict[str, tuple[type[ServiceSettings], type[ServiceSettings] | None]] = {
    "settings": (ServiceSettings, None),
    "gallery.settings": (GallerySettings, ServiceSettings),
    "embedder.settings": (EmbedderSettings, ServiceSettings),
    "indexer.settings": (IndexerSettings, GallerySettings),
    "query.settings": (QuerySettings, GallerySettings),
}


def fields_at(place: str) -> list[str]:
    """Names of the fields that an operator sets at this place of values.yaml."""
    settings, inherited = SETTINGS[place]
    elsewhere = set(inherited.model_fields) if inherited else set()
    return [name for name in settings.model_fields if name not in SET_BY_THE_CHART | elsewhere]


def settings_schema(place: str) -> dict[str, Any]:
    """JSON Schema of a settings map, with the ranges that the service itself enforces."""
    settings, _ = SETTINGS[place]
    properties = settings.model_json_schema(by_alias=False)["properties"]
    variables = {}
    for name in fields_at(place):
        entry = {
            key: value for key, value in properties[name].items() if key not in ("title", "default")
        }
        if _is_comma_separated(settings.model_fields[name]):
            entry = {"type": "string", "description": entry.get("description", "")}
        variables[variable_of(settings, name)] = entry
    return {"type": "object", "additionalProperties": False, "properties": variables}


def _is_comma_separated(field: FieldInfo) -> bool:
    """Whether the service splits the variable at commas, instead of reading it as JSON."""
    return any(mark is NoDecode or isinstance(mark, NoDecode) for mark in field.metadata)


def schema_text(values: str, renamed: str) -> str:
    """values.schema.json, of values.yaml and renamed.yaml."""
    rows = [(name, json.loads(default), meaning) for name, default, meaning in values_table(values)]
    settings = {place: settings_schema(place) for place in SETTINGS}
    return json.dumps(schema(rows, yaml.safe_load(renamed), settings), indent=2) + "\n"


def values_table(values: str) -> list[tuple[str, str, str]]:
    """(value, default as JSON, meaning) of every leaf of values.yaml, in its order.

    A leaf is whatever is not a block mapping, or a mapping with a meaning right above it: a
    comment that begins with `# --`, as helm-docs has it.
    """
    lines = values.splitlines()

    def meaning_above(line: int) -> str:
        found: list[str] = []
        while line > 0 and lines[line - 1].strip().startswith("#"):
            line -= 1
            text = lines[line].strip().removeprefix("#").strip()
            found.insert(0, text.removeprefix("-- "))
            if text.startswith("-- "):
                return " ".join(found)
        return ""

    def leaves(node: yaml.MappingNode, path: str) -> Iterator[tuple[str, str, str]]:
        for key, value in node.value:
            name, meaning = f"{path}{key.value}", meaning_above(key.start_mark.line)
            if isinstance(value, yaml.MappingNode) and not value.flow_style and not meaning:
                yield from leaves(value, f"{name}.")
            else:
                default = yaml.SafeLoader("").construct_document(value)
                yield name, json.dumps(default), meaning

    return list(leaves(yaml.compose(values, yaml.SafeLoader), ""))


def readme_text(current: str, values: str) -> str:
    """README.md with everything below its marker replaced by the tables."""
    head, marker, _ = current.partition(MARKER)
    rows = [
        f"| `{name}` | `{default}` | {_cell(meaning)} |"
        for name, default, meaning in values_table(values)
    ]
    text = [head + marker, "", "## Values", "", "| value | default | meaning |", "|---|---|---|"]
    text += [*rows, "", "## Settings", "", SETTINGS_INTRODUCTION, ""]
    text += ["| variable | where | default | meaning |", "|---|---|---|---|"]
    for place, (settings, _) in SETTINGS.items():
        for name in fields_at(place):
            field = settings.model_fields[name]
            default = ",".join(field.default) if _is_comma_separated(field) else field.default
            text.append(
                f"| `{variable_of(settings, name)}` | `{place}` | `{json.dumps(default)}` | "
                f"{_cell(field.description or '')} |"
            )
    return "\n".join(text) + "\n"


def chart_text(current: str, icon: bytes) -> str:
    """Chart.yaml with the icon within it: a chart is used where no address of ours is known."""
    address = f"data:image/svg+xml;base64,{base64.b64encode(icon).decode()}"
    return re.sub("^icon: .*$", f"icon: {address}", current, flags=re.MULTILINE)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def generated(chart: Path = CHART) -> dict[Path, str]:
    """File -> what it must hold."""
    readme, values = chart / "README.md", (chart / "values.yaml").read_text()
    description = chart / "Chart.yaml"
    return {
        description: chart_text(description.read_text(), ICON.read_bytes()),
        readme: readme_text(readme.read_text(), values),
        chart / "values.schema.json": schema_text(values, (chart / "renamed.yaml").read_text()),
        chart / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
    }
