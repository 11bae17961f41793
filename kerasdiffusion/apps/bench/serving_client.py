"""A process that asks a server for pictures, for each line of JSON that it reads.

Run as `python -m kerasdiffusion.apps.bench.serving_client`; it has no framework.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor


def ask(url: str, fields: dict, seed: int) -> int:
    """Asks for a picture; returns the bytes of the answer."""
    content = json.dumps(fields | {"seed": seed}).encode()
    headers = {"Content-Type": "application/json", "X-Client": str(seed)}
    path = f"{url}/sdapi/v1/txt2img"
    asked = urllib.request.Request(path, content, headers)
    with urllib.request.urlopen(asked, timeout=3600) as answer:
        return len(answer.read())


def ask_all(url: str, fields: dict, count: int, at_once: bool) -> int:
    """Asks for so many pictures; returns the bytes of the answers."""
    with ThreadPoolExecutor(count if at_once else 1) as pool:
        return sum(pool.map(lambda seed: ask(url, fields, seed), range(count)))


def main() -> None:
    """Answers until there is nothing more to read."""
    for line in sys.stdin:
        print(json.dumps({"bytes": ask_all(**json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
