"""A search by HTTP; runs in a pod."""

import json
import os
import sys
from urllib.request import Request, urlopen

if __name__ == "__main__":
    service = os.environ["PASSERBY_QUERY"].replace("-headless:50052", "-query:8080")
    body = json.dumps({"gallery": sys.argv[1], "caption": "a man in a red jacket"}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"http://{service}/v1/search", body, headers), timeout=10) as answer:
        print(answer.read().decode())
