"""Kills a training again and again, and compares every byte with the training that nobody touched.

`python -m tests.chaos.kill_training --kills 200` (make chaos N=200). Some faults are SIGKILL at a moment drawn
uniformly from the run's time; the others strike inside the writing of a checkpoint, at every kind of step of it:
SIGKILL, or a full disk. After each fault the checkpoints are read by a second reader, written here, that shares no code
with the product; the resumed run must start from the very checkpoint that this reader calls the newest. A killed run is
resumed, and killed again, until one life lasts to the end; then weights, description, history, curves and pictures are
compared byte by byte, and the journal point by point, and the next run begins.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.chaos.victim import Misfortune, random_misfortune, run
from tests.support.training_data import Inputs, drawn, isic_folder, real, write_inputs, write_params

TIMEOUT = 600.0
EVERY_STEP, EVERY_FEW_STEPS = 1e-6, 0.01  # checkpoint_minutes
NOT_COMPARED = ("images_per_second", "peak_memory_bytes")  # of the journal: they tell of the machine


@dataclass
class Report:
    """What came out; `bad` lists every broken promise, in words."""

    images: str = ""
    faults: Counter = field(default_factory=Counter)
    completed: int = 0
    resumed: int = 0
    steps_lost: list[int] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "faults": dict(sorted(self.faults.items())),
            "steps_lost": max(self.steps_lost, default=0),
        }


class Life:
    """One process running the training program from where the last one fell."""

    def __init__(self, folder: Path, inputs: Inputs, checkpoint_minutes: float, misfortune: Misfortune | None) -> None:
        self.folder, self.misfortune = folder, misfortune
        self.log, self.steps = folder / "log.txt", folder / "steps.txt"
        self.steps.unlink(missing_ok=True)
        parameters = write_params(
            folder / "params.yaml", epochs=2, workers=2, example_every=1, checkpoint_minutes=checkpoint_minutes
        )
        arguments = [
            *("--params", str(parameters), *inputs.arguments()),
            *("--model", str(folder / "out" / "model"), "--reports", str(folder / "out" / "reports")),
        ]
        os.environ["HYMUNET_CHECKPOINTS"] = str(folder / "checkpoints")
        context = multiprocessing.get_context("fork")
        target = (arguments, str(self.log), str(self.steps), misfortune)
        self.process = context.Process(target=_in_folder, args=(str(folder), *target))
        self.process.start()

    def wait(self, seconds: float) -> bool:
        """True when the process has ended by then."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def kill(self) -> None:
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join()

    def bury(self) -> int:
        """Ends what the process left behind (its loader processes); returns its exit code."""
        self.process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def told(self, word: str) -> int | None:
        """The last step that this life finished (`done`) or resumed from (`from`)."""
        lines = self.steps.read_text().splitlines() if self.steps.exists() else []
        return next((int(line.split()[1]) for line in reversed(lines) if line.startswith(word)), None)


def _in_folder(folder: str, *target: Any) -> None:
    os.chdir(folder)
    run(*target)


def newest_checkpoint(folder: Path) -> int | None:
    """The second reader: the highest step whose manifest and tensors hold true."""
    found = None
    for path in folder.glob("*/*.json"):
        try:
            outer = json.loads(path.read_text())
            manifest = json.loads(outer["manifest"])
            content = path.with_suffix(".safetensors").read_bytes()
            whole = outer["sha256"] == hashlib.sha256(outer["manifest"].encode()).hexdigest()
            whole &= manifest["sha256"] == hashlib.sha256(content).hexdigest()
            header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
            whole &= "model.head.weight" in header
        except (OSError, ValueError, KeyError, struct.error):
            continue
        if whole and (found is None or manifest["step"] > found):
            found = manifest["step"]
    return found


def unreadable(folder: Path) -> list[str]:
    """Manifests under a final name that do not hold true: there must never be one."""
    names = [path.name for path in folder.glob("*/*.json")]
    return [f"{len(names)} manifests, none whole"] if names and newest_checkpoint(folder) is None else []


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def journal_points(folder: Path) -> Counter:
    """(metric, step, value) of everything that was told, with how often."""
    points: Counter = Counter()
    for path in folder.glob("*/journal.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
            for key, value in record.get("metrics", {}).items():
                if key not in NOT_COMPARED:
                    points[key, record["step"], value] += 1
    return points


def chaos(kills: int, inputs: Inputs, folder: Path, seed: int) -> Report:
    source, report, begin = random.Random(seed), Report(), time.monotonic()
    quiet = _fresh(folder / "quiet")
    started = time.monotonic()
    life = Life(quiet, inputs, EVERY_STEP, None)
    if not life.wait(TIMEOUT) or life.bury() != 0:
        raise RuntimeError(f"the run that nobody touched failed:\n{life.log.read_text()[-3000:]}")
    duration = time.monotonic() - started
    reference, points = contents(quiet / "out"), journal_points(quiet / "journal")
    assert len(reference) >= 5, reference

    with tqdm(total=kills, unit="fault", desc="chaos") as bar:
        while report.faults.total() < kills:
            hurt = _fresh(folder / "hurt")
            while not _one_life(hurt, inputs, source, duration, report, report.faults.total() < kills):
                bar.update(report.faults.total() - bar.n)
            bar.update(report.faults.total() - bar.n)
            report.completed += 1
            differing = {name for name, digest in reference.items() if contents(hurt / "out").get(name) != digest}
            report.bad += [f"{name} differs from the run that nobody touched" for name in sorted(differing)]
            if journal_points(hurt / "journal") != points:
                report.bad.append("the journal differs from that of the run that nobody touched")
            if report.bad:
                shutil.copytree(hurt, folder / f"bad-{report.completed}")
                break
    report.seconds = round(time.monotonic() - begin, 1)
    return report


def _one_life(
    folder: Path, inputs: Inputs, source: random.Random, duration: float, report: Report, dangerous: bool
) -> bool:
    """Starts or resumes the run; True when it has reached its end."""
    kind = source.choice(("time", "time", "write", "write", "full disk")) if dangerous else "none"
    misfortune = random_misfortune(source, kind == "full disk") if kind in ("write", "full disk") else None
    minutes = source.choice((EVERY_STEP, EVERY_FEW_STEPS))
    expected = newest_checkpoint(folder / "checkpoints")
    life = Life(folder, inputs, minutes, misfortune)
    deadline = source.uniform(0, duration) if kind == "time" else TIMEOUT
    killed = not life.wait(deadline)
    if killed:
        life.kill()
    code = life.bury()
    if kind not in ("time", "none") and killed:
        report.bad.append(f"hung for {TIMEOUT:.0f} s after {misfortune}")
        return True
    if code == -signal.SIGKILL:
        report.faults[kind if misfortune is None else f"{kind}: {misfortune.point}"] += 1
    elif misfortune and misfortune.full and "no checkpoint at step" in life.log.read_text():
        report.faults[f"full disk: {misfortune.point}"] += 1
        life.log.write_text("")
    elif code != 0:
        report.bad.append(f"exit code {code}: {life.log.read_text()[-500:]}")
        return True
    _judge_resumption(life, expected, report)
    report.bad += unreadable(folder / "checkpoints")
    done, saved = life.told("done"), newest_checkpoint(folder / "checkpoints") or 0
    if done is not None and minutes == EVERY_STEP:
        report.steps_lost.append(done - saved)
    return code == 0


def _judge_resumption(life: Life, expected: int | None, report: Report) -> None:
    resumed, done = life.told("from"), life.told("done")
    if resumed is not None:
        report.resumed += 1
        if resumed != expected:
            report.bad.append(f"resumed from step {resumed}, the newest whole checkpoint was {expected}")
    elif expected is not None and done is not None:
        report.bad.append(f"began anew although a checkpoint of step {expected} was whole")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def small_inputs(folder: Path) -> tuple[Inputs, str]:
    """30 images at 32×32: real ones where they are at hand."""
    source = isic_folder()
    images, masks = real(30, 32, source) if source else drawn(30, 32)
    return write_inputs(folder, images, masks, validation=6, test=2), "ISIC 2018" if source else "drawn"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the report here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hymunet-chaos-") as folder:
        inputs, images = small_inputs(Path(folder) / "inputs")
        report = chaos(arguments.kills, inputs, Path(folder), arguments.seed)
    report.images = images
    text = json.dumps(report.to_json(), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 1 if report.bad else 0


if __name__ == "__main__":
    sys.exit(main())
