"""A server under load: requests a second, how long clients wait, and the server's memory, for 1, 4 and 16 clients.

    python benchmarks/serve.py [--networks shapes r50-fpn] [--sizes 640x480 4000x3000] [--clients 1 4 16] [--seconds 15]
        [--json FILE] [-- OPTIONS OF THE SERVER]

Each row of the table is a server of its own: `maskrcnn serve` with a network of random weights, in its own process,
asked by threads of this one over connections that stay open. The images are JPEGs of smooth noise. An answer that says
503 or 429 is counted, and its client waits as `Retry-After` says. On one machine the clients take their part of the
processor. The memory is the most that the server had, starting included (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.model.build import build_model
from maskrcnn.presets import preset
from maskrcnn.weights.native import save_model

BOUNDARY = "maskrcnn-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass
class Counts:
    """What the clients of one row saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    refused: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: int, seconds: float) -> None:
        with self.lock:
            self.statuses[status] += 1
            (self.seconds if status == 200 else self.refused).append(seconds)


def body_of(width: int, height: int) -> bytes:
    """A form with one JPEG."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    return head.encode() + file.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def served(model: Path, options: list[str]) -> Iterator[tuple[int, int]]:
    """(port, process id) of a server that has loaded the model."""
    command = [sys.executable, "-m", "maskrcnn", "serve", str(model), "--port", "0", "--rate", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                raise SystemExit("the server did not start")
            yield int(found[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def peak_mb(process: int) -> float:
    """Most memory that a process had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def client(port: int, body: bytes, until: float, counts: Counts) -> None:
    """Ask, wait for the answer, ask again."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    while time.monotonic() < until:
        began = time.monotonic()
        connection.request("POST", "/predict", body, HEADERS)
        reply = connection.getresponse()
        reply.read()
        counts.add(reply.status, time.monotonic() - began)
        if reply.status != 200:
            connection.close()  # the server would not wait that long; the next request opens it again
            time.sleep(min(float(reply.headers.get("Retry-After", 1)), max(until - time.monotonic(), 0)))
    connection.close()


def measure(port: int, body: bytes, clients: int, seconds: float) -> tuple[Counts, float]:
    """What so many clients saw, and how long it took until the last one was answered."""
    counts, began = Counts(), time.monotonic()
    threads = [threading.Thread(target=client, args=(port, body, began + seconds, counts)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts, time.monotonic() - began


def row(network: str, size: str, clients: int, seconds: float, options: list[str], folder: Path) -> dict[str, object]:
    """One row of the table."""
    width, height = map(int, size.split("x"))
    body = body_of(width, height)
    with served(folder / network, options) as (port, process):
        measure(port, body, 1, 0.01)
        counts, took = measure(port, body, clients, seconds)
        peak = peak_mb(process)
    middle, late = np.percentile(counts.seconds or [np.nan], [50, 95]).tolist()
    return {
        "network": network,
        "image": size,
        "clients": clients,
        "requests a second": round(len(counts.seconds) / took, 2),
        "median s": round(middle, 3),
        "95 % s": round(late, 3),
        "refused": sum(counts.statuses.values()) - counts.statuses[200],
        "refused after s": round(max(counts.refused, default=0.0), 2),
        "peak MB": round(peak),
    }


def main() -> None:
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["shapes", "r50-fpn"], help="presets")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "4000x3000"], help="WIDTHxHEIGHT")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=15, help="for each row")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    given = parser.parse_args(own)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in given.networks:
            config = preset(network)
            save_model(build_model(config.model, classes=("thing",), data=config.data), folder / network)
            for size in given.sizes:
                for clients in given.clients:
                    rows.append(row(network, size, clients, given.seconds, options, folder))
                    if len(rows) == 1:
                        print(" | ".join(rows[0]), flush=True)
                    print(" | ".join(map(str, rows[-1].values())), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
