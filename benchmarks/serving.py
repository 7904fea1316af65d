"""Throughput and latency of `hymunet serve` for 1 to 64 clients at once, with JPEGs of mixed sizes.

    python -m benchmarks.serving [--model DIR] [--seconds 60] [--clients 1 4 16 64] [--batch 1 8] [--json FILE]

Without --model, a HyM-UNet of random weights at 256×256, which costs the same. The server is a process of its own;
clients are threads of this one, on the same processors, and pay for their share. Memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZES = ((600, 450), (1022, 767), (1504, 1129), (256, 256), (3000, 2000))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a trained model's folder")
    parser.add_argument("--seconds", type=float, default=60, help="for each row (60)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="the server's --batch; 1: no batching")
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    bodies, rows = photos(), []
    print("batch clients  images/s   p50 ms   p99 ms mean batch     MB  statuses")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or random_model(Path(folder))
        for batch in options.batch:
            with served(model, batch) as (address, process):
                load(address, bodies, 1, min(2.0, options.seconds))  # warm
                for clients in options.clients:
                    row = {"batch": batch, "clients": clients, **load(address, bodies, clients, options.seconds)}
                    row["resident_mb"] = resident(process.pid)
                    rows.append(row)
                    times = f"{row['images_per_second']:9.2f} {row['p50_ms']:8.0f} {row['p99_ms']:8.0f}"
                    rest = f"{row['mean_batch']:10.2f} {row['resident_mb']:6.0f}  {row['statuses']}"
                    print(f"{batch:5} {clients:7} {times} {rest}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"processors": os.cpu_count(), "rows": rows}, indent=1) + "\n")
    return 1 if any(set(row["statuses"]) - {"200", "429", "503"} for row in rows) else 0


def photos() -> list[bytes]:
    import cv2

    from hymunet.data.acquire.synthetic import draw

    drawn = [draw(number, 512, 0)[0][..., ::-1] for number in range(len(SIZES))]
    return [
        cv2.imencode(".jpg", cv2.resize(image, size))[1].tobytes() for image, size in zip(drawn, SIZES, strict=True)
    ]


def random_model(folder: Path) -> Path:
    import torch

    from hymunet import models

    section = {"name": "hymunet", "size": "small", "drop_path": 0.0}
    torch.manual_seed(0)
    info = {"model": section, "image_size": 256, "threshold": 0.5}
    models.save(models.build(models.section(section), 256), info, folder / "model")
    return folder / "model"


@contextmanager
def served(model: Path, batch: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [
        sys.executable,
        "-m",
        "hymunet.cli",
        "serve",
        "--model",
        str(model),
        "--port",
        "0",
        "--batch",
        str(batch),
    ]
    process = subprocess.Popen([*command, "--queue", "64", "--drain-seconds", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.match(r"(http://\S+) is ready", line):
                yield found[1], process
                break
        else:
            raise RuntimeError(f"the server ended with code {process.wait()}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def load(address: str, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Each client asks for masks without a pause; latencies are of answers with a mask."""
    import requests

    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    before = batches(address)
    start = time.perf_counter()

    def client(number: int) -> None:
        with requests.Session() as session:
            while time.perf_counter() - start < seconds:
                number += 1
                sent = time.perf_counter()
                try:
                    answer = session.post(
                        f"{address}/v1/segment?output=mask", data=bodies[number % len(bodies)], timeout=120
                    )
                    status = str(answer.status_code)
                except requests.RequestException as error:
                    status = type(error).__name__
                statuses[status] += 1
                if status == "200":
                    latencies.append(time.perf_counter() - sent)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    images, count = (after - earlier for after, earlier in zip(batches(address), before, strict=True))
    ordered = sorted(latencies) or [float("nan")]
    return {
        "images_per_second": len(latencies) / took,
        "p50_ms": 1e3 * ordered[len(ordered) // 2],
        "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))],
        "mean_batch": images / max(1.0, count),
        "statuses": dict(sorted(statuses.items())),
    }


def batches(address: str) -> tuple[float, float]:
    """Images and batches that the model has seen."""
    import requests

    text = requests.get(f"{address}/metrics", timeout=60).text
    images, count = (re.search(rf"^hymunet_batch_images_{name} (\S+)", text, re.M) for name in ("sum", "count"))
    assert images is not None
    assert count is not None
    return float(images[1]), float(count[1])


def resident(process: int) -> float:
    """MB; 0 where there is no /proc."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
