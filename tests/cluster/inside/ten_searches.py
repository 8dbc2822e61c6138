"""Prints the five best hits of ten captions; runs in a pod."""

import json
import sys

from passerby import Client

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "purple", "grey", "brown", "orange")


def main(gallery: str) -> None:
    with Client() as client:
        captions = [f"a person in a {colour} jacket" for colour in COLOURS]
        found = [client.search(caption, gallery=gallery, top_k=5) for caption in captions]
    print(json.dumps([[(hit.filename, round(hit.score, 4)) for hit in hits] for hits in found]))


if __name__ == "__main__":
    main(sys.argv[1])
