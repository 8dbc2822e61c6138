"""`python -m services.query.http.openapi`: protoc's descriptors on stdin -> openapi.json on stdout.

The descriptors are those of search.proto, with its imports and comments.
"""

import json
import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.query.http.openapi.document import document

if __name__ == "__main__":
    files = FileDescriptorSet.FromString(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(document(files), indent=2, ensure_ascii=False) + "\n")
