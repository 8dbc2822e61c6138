"""Schemas of the kinds that are not Kubernetes' own: the fields that the chart uses of them."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$"}
COUNT: Schema = {"type": "integer", "minimum": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def exactly(optional: dict[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**(optional or {}), **required},
        "required": list(required),
    }


def some(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


# KEDA's metadata are strings throughout; its API refuses numbers and booleans.
REDIS_STREAMS = exactly(
    {
        "passwordFromEnv": TEXT,
        "username": TEXT,
        "enableTLS": {"enum": ["true", "false"]},
        "databaseIndex": DIGITS,
    },
    # A short name is looked up in KEDA's own namespace.
    address={"type": "string", "pattern": "^[^.:]+\\.[^:]+:[0-9]+$"},
    stream={"const": "passerby:ingest"},
    streamLength=DIGITS,
)
ALERT = exactly(
    {"for": {"type": "string", "pattern": "^[0-9]+m$"}},
    alert=TEXT,
    expr=TEXT,
    labels=TEXTS,
    annotations=TEXTS,
)

SPECS: dict[str, Schema] = {
    "ScaledObject": exactly(
        scaleTargetRef=exactly(name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        triggers=some(exactly(type={"const": "redis-streams"}, metadata=REDIS_STREAMS)),
    ),
    "HTTPRoute": exactly(
        {"hostnames": some(TEXT)},
        parentRefs=some(exactly({"namespace": TEXT, "sectionName": TEXT}, name=TEXT)),
        rules=some(exactly(backendRefs=some(exactly(name=TEXT, port=COUNT)))),
    ),
    "ServiceMonitor": exactly(
        selector=exactly(matchLabels=TEXTS), endpoints=some(exactly(port=TEXT))
    ),
    "PrometheusRule": exactly(groups=some(exactly(name=TEXT, rules=some(ALERT)))),
}
