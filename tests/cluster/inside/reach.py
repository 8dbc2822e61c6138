"""Prints which of the addresses in its arguments take a connection; runs in a pod."""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

# A policy that drops packets says nothing.
TIMEOUT_S = 3


def is_open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), TIMEOUT_S).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    addresses = sys.argv[1:]
    with ThreadPoolExecutor(len(addresses)) as pool:
        print(json.dumps(dict(zip(addresses, pool.map(is_open, addresses), strict=True))))
