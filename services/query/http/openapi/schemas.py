"""Protobuf messages -> JSON Schemas, as protobuf's JSON mapping writes and reads them."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

Schema = dict[str, Any]

_SIGNED: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_UNSIGNED: Schema = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
# JSON's numbers are doubles in many languages, so 64-bit integers are strings.
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: _SIGNED,
    FieldDescriptor.CPPTYPE_UINT64: _UNSIGNED,
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_BYTES: Schema = {
    "type": "string",
    "format": "byte",
    "contentEncoding": "base64",
    "pattern": "^[A-Za-z0-9+/]*={0,2}$",
}
# The format `duration` of JSON Schema is another one, ISO 8601's.
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {
        "type": "string",
        "format": "google-duration",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
    },
}


def comments(files: FileDescriptorSet) -> dict[str, str]:
    """Full name of a message, field or method -> its comment, in one line."""
    found = {}
    for file in files.file:
        for location in file.source_code_info.location:
            if location.leading_comments and len(location.path) % 2 == 0:
                node: Any = file
                names = [file.package]
                for number, index in zip(location.path[::2], location.path[1::2], strict=True):
                    node = getattr(node, node.DESCRIPTOR.fields_by_number[number].name)[index]
                    names.append(node.name)
                found[".".join(names)] = " ".join(location.leading_comments.split())
    return found


def schemas(
    requests: Iterable[Descriptor],
    responses: Iterable[Descriptor],
    comments: Mapping[str, str],
    rules: Mapping[str, Schema],
) -> dict[str, Schema]:
    """Schemas of the messages, and of all messages in their fields: name -> schema.

    Requests reject fields that they do not know, and need exactly one field of a oneof. Responses
    always have the fields without presence. comments: full name -> description. rules: a message
    (`Hit`) or a field (`Hit.score`) -> what it must fulfil beyond its type.
    """
    asked, answered = _closure(requests), _closure(responses)
    made = {}
    for message in sorted({*asked, *answered}, key=lambda message: message.name):
        schema = _message(message, comments, rules)
        if message not in answered:
            schema["additionalProperties"] = False
            for oneof in message.oneofs:
                if len(oneof.fields) > 1:  # an optional field is a oneof of one
                    schema |= exactly_one(*(field.json_name for field in oneof.fields))
        if message not in asked:
            schema["required"] = [f.json_name for f in message.fields if not f.has_presence]
        made[message.name] = schema | rules.get(message.name, {})
    return made


def exactly_one(*names: str) -> Schema:
    return {"oneOf": [{"required": [name]} for name in names]}


def reference(message: Descriptor) -> Schema:
    return {"$ref": f"#/components/schemas/{message.name}"}


def _closure(messages: Iterable[Descriptor]) -> set[Descriptor]:
    """The messages and all that their fields hold, but for maps and well-known types."""
    found: set[Descriptor] = set()
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message in found or message.full_name in _WELL_KNOWN:
            continue
        if not message.GetOptions().map_entry:
            found.add(message)
        waiting += [field.message_type for field in message.fields if field.message_type]
    return found


def _message(
    message: Descriptor, comments: Mapping[str, str], rules: Mapping[str, Schema]
) -> Schema:
    schema: Schema = {"type": "object"}
    if message.full_name in comments:
        schema["description"] = comments[message.full_name]
    properties: dict[str, Schema] = {}
    for field in message.fields:
        made = properties[field.json_name] = _field(field)
        if field.full_name in comments:
            made["description"] = comments[field.full_name]
        made |= rules.get(f"{message.name}.{field.json_name}", {})
    return {**schema, "properties": properties}


def _field(field: FieldDescriptor) -> Schema:
    if field.message_type and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _value(value)}
    return {"type": "array", "items": _value(field)} if field.is_repeated else _value(field)


def _value(field: FieldDescriptor) -> Schema:
    if field.message_type:
        well_known = _WELL_KNOWN.get(field.message_type.full_name)
        return dict(well_known) if well_known else reference(field.message_type)
    if field.enum_type:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    return dict(_BYTES if field.type == field.TYPE_BYTES else _SCALARS[field.cpp_type])
