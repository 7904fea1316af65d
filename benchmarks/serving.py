"""`hymunet serve` under load: 1 to 64 clients at once, JPEGs of mixed sizes, and what it must hold out.

    python -m benchmarks.serving [--model DIR] [--seconds 60] [--clients 1 4 16 64] [--batch 1 4] [--requests 20000]
        [--json FILE]

Throughput and latency of each number of clients, with batching and without; memory over --requests; overload, which is
answered by 429 and 503 with a time to come again; a version that is switched, and SIGTERM, under load. It ends with
code 1 where one request was lost. The model is the package's own, or --model, or else a HyM-UNet of random weights.
The server is a process of its own; clients are threads of this one, on the same processors, and pay for their share.
Memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import serving_trials as trials
from benchmarks.serving_clients import Clients
from benchmarks.serving_server import SIZES, figure, photos, random_model, resident, served

GROWTH = 40  # MB, of what allocators keep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a trained model's folder")
    parser.add_argument("--seconds", type=float, default=60, help="for each row (60)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="the server's --batch; 1: no batching")
    parser.add_argument("--requests", type=int, default=20_000, help="over which memory must not grow (20000)")
    parser.add_argument("--json", type=Path, help="write the figures")
    options = parser.parse_args()
    bodies = photos()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model or packaged() or random_model(folder)
        record: dict[str, Any] = described(model, options.seconds)
        print("batch clients  images/s   p50 ms   p99 ms mean batch     MB  statuses")
        record["rows"] = list(rows(model, bodies, options.batch, options.clients, options.seconds))
        for name, trial in (
            ("memory", lambda: trials.memory(model, bodies, options.requests)),
            ("overload", lambda: trials.overload(model, bodies, options.seconds / 2)),
            ("switch", lambda: trials.switch(folder, bodies, options.seconds / 2)),
            ("sigterm", lambda: trials.end(model, bodies, min(5.0, options.seconds))),
        ):
            record[name] = trial()
            print(f"{name}: {json.dumps(record[name])}", flush=True)
    found = record["problems"] = problems(record)
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(found) or "no request was lost")
    return 1 if found else 0


def packaged() -> Path | None:
    from hymunet import bundled

    return bundled.FOLDER if bundled.is_there() else None


def described(model: Path, seconds: float) -> dict[str, Any]:
    import torch

    from hymunet.processors import processors
    from hymunet.training.device import describe

    info = json.loads((model / "model.json").read_text())
    return {
        "machine": describe(torch.device("cpu")),
        "processors": processors(),
        "torch": torch.__version__,
        "model": info["model"],
        "image_size": info["image_size"],
        "sizes": SIZES,
        "seconds": seconds,
    }


def rows(
    model: Path, bodies: list[bytes], batches: list[int], numbers: list[int], seconds: float
) -> Iterator[dict[str, Any]]:
    import time

    for batch in batches:
        with served(model, batch=batch) as (address, process):
            with Clients(address, bodies, 1, most=2 * len(bodies)):
                pass  # warm
            for number in numbers:
                images, count = (figure(address, f"hymunet_batch_images_{name}") for name in ("sum", "count"))
                with Clients(address, bodies, number) as clients:
                    time.sleep(seconds)
                images = figure(address, "hymunet_batch_images_sum") - images
                count = figure(address, "hymunet_batch_images_count") - count
                row = {"batch": batch, "clients": number, **clients.record()}
                row |= {"mean_batch": images / max(1.0, count), "resident_mb": resident(process.pid)}
                times = f"{row['images_per_second']:9.2f} {row['p50_ms']:8.0f} {row['p99_ms']:8.0f}"
                rest = f"{row['mean_batch']:10.2f} {row['resident_mb']:6.0f}  {row['statuses']}"
                print(f"{batch:5} {number:7} {times} {rest}", flush=True)
                yield row


def problems(record: dict[str, Any]) -> list[str]:
    """What must not be, in words."""
    over, switched, ended = record["overload"], record["switch"], record["sigterm"]
    allowed = [
        *((f"{row['clients']} clients, batch {row['batch']}", row, {"200", "429"}) for row in record["rows"]),
        ("memory", record["memory"], {"200", "422"}),
        *((f"overload, {name}", one, {"200", "429", "503"}) for name, one in over.items()),
        ("switch", switched, {"200"}),
        ("sigterm", ended, {"200"}),
    ]
    found = [f"{name}: {one['statuses']}" for name, one, fine in allowed if set(one["statuses"]) - fine]
    checks = {
        f"memory grew by {record['memory']['grown_mb']:.0f} MB": record["memory"]["grown_mb"] < GROWTH,
        "a refusal named no time": not any(one["refusals_without_a_time"] for one in over.values()),
        "a full queue was not refused by 429": "429" in over["queue 8"]["statuses"],
        "a late answer was not refused by 503": "503" in over["1 s for an answer"]["statuses"],
        f"{switched['moves']} moves, {switched['switches']:.0f} switches": switched["switches"] >= 2,
        "not both versions answered": len(switched["answers"]) == 2,
        f"it ended with code {ended['code']}": ended["code"] == 0,
        "nothing was answered after SIGTERM": ended["answered_after_sigterm"] > 0,
    }
    return found + [text for text, fine in checks.items() if not fine]


if __name__ == "__main__":
    sys.exit(main())
