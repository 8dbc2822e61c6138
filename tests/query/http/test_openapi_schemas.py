"""Each kind of protobuf field becomes the JSON Schema of what protobuf's JSON mapping writes."""

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from services.query.http.openapi.schemas import comments, schemas

PROTO = """
syntax = "proto3";
package test;
import "google/protobuf/duration.proto";
import "google/protobuf/timestamp.proto";

// One of
// each kind.
message Kinds {
  // Of the body.
  double height_m = 1;
  float score = 2;
  int32 small = 3;
  uint32 natural = 4;
  int64 large = 5;
  fixed64 id = 6;
  bool asked = 7;
  bytes image = 8;
  Colour colour = 9;
  repeated string names = 10;
  map<string, int64> counts = 11;
  google.protobuf.Timestamp captured_at = 12;
  google.protobuf.Duration took = 13;
  optional int32 top_k = 14;
  Inner inner = 15;
  repeated Inner inners = 16;
  map<string, Inner> by_name = 17;
  oneof query { string caption = 18; string filename = 19; }
}
message Inner { string text = 1; }
enum Colour { COLOUR_UNSPECIFIED = 0; RED = 1; }
"""
INNER = {"$ref": "#/components/schemas/Inner"}
EXPECTED = {
    "heightM": {"type": "number", "format": "double", "description": "Of the body."},
    "score": {"type": "number", "format": "float", "maximum": 1},
    "small": {"type": "integer", "format": "int32"},
    "natural": {"type": "integer", "format": "uint32", "minimum": 0},
    "large": {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    "id": {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"},
    "asked": {"type": "boolean"},
    "image": {
        "type": "string",
        "format": "byte",
        "contentEncoding": "base64",
        "pattern": "^[A-Za-z0-9+/]*={0,2}$",
    },
    "colour": {"type": "string", "enum": ["COLOUR_UNSPECIFIED", "RED"]},
    "names": {"type": "array", "items": {"type": "string"}},
    "counts": {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
    },
    "capturedAt": {"type": "string", "format": "date-time"},
    "took": {
        "type": "string",
        "format": "google-duration",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
    },
    "topK": {"type": "integer", "format": "int32"},
    "inner": INNER,
    "inners": {"type": "array", "items": INNER},
    "byName": {"type": "object", "additionalProperties": INNER},
    "caption": {"type": "string"},
    "filename": {"type": "string"},
}
# What a sender may leave out, so that an answer need not have it.
WITH_PRESENCE = {"capturedAt", "took", "topK", "inner", "caption", "filename"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    folder = tmp_path_factory.mktemp("proto")
    (folder / "test.proto").write_text(PROTO)
    flags = ["--include_imports", "--include_source_info", "--descriptor_set_out=set"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *flags, "test.proto"]
    subprocess.run(command, cwd=folder, check=True)
    return FileDescriptorSet.FromString((folder / "set").read_bytes())


@pytest.fixture(scope="module")
def kinds(files: FileDescriptorSet) -> Descriptor:
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool.FindMessageTypeByName("test.Kinds")


def schemas_of(
    files: FileDescriptorSet, requests: list[Descriptor], responses: list[Descriptor]
) -> dict[str, Any]:
    rules = {"Kinds.score": {"maximum": 1}}
    return schemas(requests, responses, comments(files), rules)


def test_a_request_takes_known_fields_and_one_of_a_oneof(
    files: FileDescriptorSet, kinds: Descriptor
) -> None:
    assert schemas_of(files, [kinds], []) == {
        "Inner": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "additionalProperties": False,
        },
        "Kinds": {
            "type": "object",
            "description": "One of each kind.",
            "properties": EXPECTED,
            "additionalProperties": False,
            "oneOf": [{"required": ["caption"]}, {"required": ["filename"]}],
        },
    }


def test_a_response_has_all_fields_without_presence(
    files: FileDescriptorSet, kinds: Descriptor
) -> None:
    made = schemas_of(files, [], [kinds])
    assert set(made["Kinds"]["required"]) == EXPECTED.keys() - WITH_PRESENCE
    assert made["Inner"]["required"] == ["text"]
    assert "additionalProperties" not in made["Kinds"]
    assert "oneOf" not in made["Kinds"]


def test_a_message_of_requests_and_responses_promises_neither(
    files: FileDescriptorSet, kinds: Descriptor
) -> None:
    inner = kinds.file.message_types_by_name["Inner"]
    made = schemas_of(files, [kinds], [inner])
    assert made["Inner"] == {"type": "object", "properties": {"text": {"type": "string"}}}
