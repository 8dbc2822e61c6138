"""Searches on and on until its input ends, then prints what it saw; runs in a pod."""

import json
import sys
import threading
import time

from passerby import Client
from passerby.errors import PasserbyError

CAPTIONS = (
    "a man in a red jacket and blue trousers",
    "a woman in a purple dress",
    "a person with a black backpack",
    "a child in a yellow shirt",
)
# The processors are few, and shared with what is searched.
PAUSE_S = 0.05


def main(gallery: str) -> None:
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=[ended], daemon=True).start()
    seconds: list[float] = []
    failures: list[tuple[float, float, str]] = []
    with Client() as client:
        client.search(CAPTIONS[0], gallery=gallery)
        print("ready", flush=True)
        while not ended.wait(PAUSE_S):
            start = time.time()
            caption = CAPTIONS[len(seconds) % len(CAPTIONS)]
            try:
                client.search(caption, gallery=gallery, top_k=3)
            except PasserbyError as error:
                failures.append((start, time.time(), str(error)))
            seconds.append(time.time() - start)
    print(json.dumps({"seconds": seconds, "failures": failures}))


def _wait_for_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main(sys.argv[1])
