"""values.schema.json: names, types and descriptions from values.yaml, and the rules for each.

What only holds between two values of different parts stands in the chart's validation.yaml.
"""

from typing import Any

Schema = dict[str, Any]
# (value, its default, its meaning), for each value of values.yaml.
Rows = list[tuple[str, Any, str]]

OBJECT: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT: Schema = {"minimum": 1}
PERCENT: Schema = {"minimum": 1, "maximum": 100}
# Of an object of Kubernetes that is not made by this chart; empty: none.
NAME: Schema = {"pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
# What objects are called after; 53 characters leave room for "-embedder" in a label of DNS.
OVERRIDE: Schema = {"pattern": "^([a-z]([-a-z0-9]{0,51}[a-z0-9])?)?$"}
QUANTITY: Schema = {"pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
S3: Schema = {"pattern": "^(s3://[^/]+(/.*)?)?$"}


def exactly(*names: str, **properties: Schema) -> Schema:
    """An object with these properties only; those of `names` may be anything."""
    allowed: Schema = {**{name: {} for name in names}, **properties}
    return {"type": "object", "additionalProperties": False, "properties": allowed}


def some(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def having(*names: str) -> Schema:
    return {"type": "object", "required": list(names)}


def one_of(*choices: str) -> Schema:
    return {"enum": list(choices)}


def if_then(section: str, value: Any, then: Schema) -> Schema:
    condition = {"properties": {section: {"const": value}}, "required": [section]}
    return {"if": condition, "then": then}


def filled(*names: str) -> Schema:
    """One of these values is given and not empty."""
    ways = [{"required": [name], "properties": {name: {"minLength": 1}}} for name in names]
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


PEERS = some(
    {**exactly(podSelector=OBJECT, namespaceSelector=OBJECT, ipBlock=OBJECT), "minProperties": 1}
)
# By a value's path, or by its last name after "*.".
RULES: dict[str, Schema] = {
    "nameOverride": OVERRIDE,
    "fullnameOverride": OVERRIDE,
    "commonLabels": TEXTS,
    "imagePullSecrets": some(having("name")),
    "image.registry": {"pattern": "^([^:/ ]+(:[0-9]+)?(/[^ ]*[^/ ])?)?$"},
    "image.tag": {"pattern": "^[A-Za-z0-9_.-]*$"},
    "image.pullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "*.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "*.annotations": TEXTS,
    "*.resources": exactly(requests=QUANTITIES, limits=QUANTITIES),
    "*.nodeSelector": TEXTS,
    "*.tolerations": some(exactly("key", "operator", "value", "effect", "tolerationSeconds")),
    "*.tolerationSeconds": {"type": ["integer", "null"]},
    "*.affinity": exactly("nodeAffinity", "podAffinity", "podAntiAffinity"),
    "*.topologySpreadConstraints": some(having("maxSkew", "topologyKey", "whenUnsatisfiable")),
    "*.priorityClassName": NAME,
    "*.podAnnotations": TEXTS,
    "*.podLabels": TEXTS,
    "tracing.endpoint": {"pattern": "^(https?://[^/]+:[0-9]+/?)?$"},
    "*.extraEnv": some(having("name")),
    "*.extraEnvFrom": some(exactly("prefix", "secretRef", "configMapRef")),
    "*.extraVolumes": some(having("name")),
    "*.extraVolumeMounts": some(having("name", "mountPath")),
    "*.extraInitContainers": some(having("name", "image")),
    # What it leaves to drain is at least a second.
    "*.terminationGracePeriodSeconds": {"minimum": 11, "maximum": 3610},
    "*.existingSecret": NAME,
    "*.existingClaim": NAME,
    "*.storageClass": NAME,
    "*.size": QUANTITY,
    "*.minReplicas": COUNT,
    "*.maxReplicas": COUNT,
    "*.cpuPercent": PERCENT,
    "embedder.maxSurge": {"maximum": 10},
    "embedder.minReadySeconds": {"maximum": 600},
    "embedder.gpu.resource": {"pattern": "^nvidia\\.com/[A-Za-z0-9._-]+$"},
    "embedder.gpu.count": {"minimum": 1, "maximum": 8},
    "embedder.gpu.runtimeClassName": NAME,
    "embedder.model.source": one_of("image", "claim", "oci", "s3"),
    "embedder.model.names": some(
        {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        },
        uniqueItems=True,
    ),
    "embedder.model.uri": S3,
    "embedder.model.fetcher": {"minLength": 1},
    "embedder.autoscaling.metric": {"pattern": "^[a-zA-Z0-9_:]*$"},
    "embedder.autoscaling.metricTarget": COUNT,
    "indexer.autoscaling.entriesPerReplica": COUNT,
    "query.service.type": one_of("ClusterIP", "NodePort", "LoadBalancer"),
    "images.store": one_of("claim", "s3", "none"),
    "images.uri": S3,
    "images.claim.accessMode": one_of("ReadWriteOnce", "ReadWriteMany"),
    "s3.endpoint": {"pattern": "^(https?://[^/]+)?$"},
    "redis.image": {"minLength": 1},
    "redis.maxMemory": {"pattern": "^[0-9]+(k|kb|m|mb|g|gb)$"},
    "externalRedis.url": {"pattern": "^(rediss?://([^:@/]+@)?[^:@/]+:[0-9]+(/[0-9]+)?)?$"},
    "externalMilvus.uri": {"pattern": "^(https?://[^:@/]+:[0-9]+/?)?$"},
    "ingress.className": NAME,
    "ingress.tlsSecret": NAME,
    "httpRoute.parentRefs": some(having("name")),
    "httpRoute.hostnames": some({"type": "string", "minLength": 1}),
    "networkPolicy.searchFrom": PEERS,
    "networkPolicy.pushFrom": PEERS,
    "networkPolicy.kedaFrom": {**PEERS, "minItems": 1},
    "networkPolicy.scrapeFrom": PEERS,
    "monitoring.labels": TEXTS,
    # Of version 0.1.0, where the form was another one.
    "image.pullSecrets": some({"type": "string", "minLength": 1}),
    "*.drainSeconds": {"minimum": 1, "maximum": 3600},
}


def _either(bundled: str, external: str, address: str) -> Schema:
    """An address is given if, and only if, what it replaces is switched off."""

    def where(rule: Schema) -> Schema:
        return {"properties": {external: {"properties": {address: rule}}}}

    is_off = {"properties": {"enabled": {"const": False}}, "required": ["enabled"]}
    return {
        "if": {"properties": {bundled: is_off}},
        "then": where({"minLength": 1}),
        "else": where({"maxLength": 0}),
    }


# Section ("": all values) -> what holds between the values in it.
CONDITIONS: dict[str, list[Schema]] = {
    "": [
        _either("redis", "externalRedis", "url"),
        _either("milvus", "externalMilvus", "uri"),
    ],
    "embedder.model": [
        # `claim`: its name in version 0.1.0.
        if_then("source", "claim", filled("existingClaim", "claim")),
        if_then("source", "oci", filled("reference")),
        if_then("source", "s3", filled("uri")),
    ],
    "images": [if_then("store", "s3", filled("uri"))],
    "httpRoute": [
        if_then("enabled", True, {"properties": {"parentRefs": {"minItems": 1}}}),
    ],
}
# A chart within ours checks its own values.
OPEN = ("milvus",)


def schema(rows: Rows, renamed: dict[str, str], settings: dict[str, Schema]) -> Schema:
    """The JSON Schema of the whole of values.yaml.

    renamed: name of a value in the last version -> its name now; both are taken.
    settings: place of a map of settings -> what may stand in it.
    """
    root = _section("")
    root = {"title": "Values of the Passerby chart", **root}
    root["properties"]["global"] = OBJECT
    described = {name: _value(name, default, meaning) for name, default, meaning in rows}
    for name, value in described.items():
        if not name.startswith(OPEN):
            _put(root, name, value | settings.get(name, {}))
    for name in OPEN:
        _put(root, f"{name}.enabled", described[f"{name}.enabled"])
        root["properties"][name]["additionalProperties"] = True
    for old, new in renamed.items():
        value = {**described[new], **_rule(old), "description": f"Now `{new}`."}
        _put(root, old, {**value, "deprecated": True})
    return root


def _value(name: str, default: Any, meaning: str) -> Schema:
    return {"description": meaning, **_type(default), **_rule(name)}


def _rule(name: str) -> Schema:
    return RULES.get(name) or RULES.get(f"*.{name.rpartition('.')[2]}", {})


def _type(default: Any) -> Schema:
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
    return OBJECT


def _section(name: str) -> Schema:
    section = exactly()
    if name in CONDITIONS:
        section["allOf"] = CONDITIONS[name]
    return section


def _put(root: Schema, name: str, value: Schema) -> None:
    node, path = root, ""
    *sections, last = name.split(".")
    for section in sections:
        path = f"{path}.{section}".lstrip(".")
        node = node["properties"].setdefault(section, _section(path))
    node["properties"][last] = value
