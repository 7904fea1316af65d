"""A training from start, or from where it stopped, to its outputs."""

import hashlib
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hymunet import closure, models, params
from hymunet.commit import git_commit
from hymunet.data.feed.dataset import Prepared, TrainingData
from hymunet.training import compiled_code, distributed, reports, shared_memory
from hymunet.training import device as devices
from hymunet.training.batch_norm import require_statistics
from hymunet.training.checkpoint import Checkpoints
from hymunet.training.checkpoint_store import open_storage
from hymunet.training.identity import IMMATERIAL, configuration, run_key
from hymunet.training.interrupts import Interrupts
from hymunet.training.learner import EXAMPLES, Learner
from hymunet.training.loading import WorkerLoader
from hymunet.training.others import left_alone
from hymunet.training.progress import Readout
from hymunet.training.tracking.journal import Tracker, open_tracker

log = logging.getLogger("hymunet.training")


@dataclass(frozen=True)
class Paths:
    """prepared, split: inputs. model, reports: outputs. checkpoints: a folder or s3://bucket/prefix."""

    prepared: Path
    split: Path
    model: Path
    reports: Path
    checkpoints: str = "checkpoints"
    journal: Path = Path("journal")


def train(model_params: params.Model, train_params: params.Train, paths: Paths) -> int:
    """Runs the training that the sections and the data determine, or the rest of it; returns the exit code.

    0: `paths.model` and `paths.reports` are written. 75 after SIGTERM, 130 after SIGINT: a checkpoint is written, the
    same call goes on from there and ends with the same bytes. Raises ValueError for what a user can get wrong.
    """
    devices.prepare()
    with distributed.ranks() as ranks, Interrupts() as interrupts:
        learner = Learner(model_params, train_params, TrainingData(paths.prepared, paths.split), ranks)
        require_statistics(learner.model, learner.data.image_size, model_params, train_params, ranks.count)
        identity = identity_of(learner, paths)
        checkpoints = Checkpoints(open_storage(paths.checkpoints, run_key(identity)), identity) if ranks.first else None
        saved = ranks.from_first(checkpoints.newest() if checkpoints else None)
        if saved:
            learner.restore(saved)
            if ranks.first:
                say(where(saved.step, learner.schedule.steps))
        elif ranks.first and (line := left_alone(paths.checkpoints, identity)):
            say(line)
        unfinished = learner.progress.step < learner.schedule.steps
        code = compiled_code.shared(learner, identity, say) if unfinished and ranks.local == 0 else None
        if code:
            code.bring()
        ranks.agree(True)  # all of a machine compile from what the first of them has brought
        description = describe(learner, identity)
        with tracker_of(paths, run_key(identity), description, checkpoints) as tracker:
            try:
                finished = Session(
                    learner, checkpoints, tracker, interrupts, paths, code if ranks.first else None
                ).run()
            except RuntimeError as error:
                if died := shared_memory.explained(error):
                    raise died from None
                raise
            if finished and ranks.first:
                publish(learner, identity, tracker, paths)
            tracker.finish("FINISHED" if finished else "KILLED")
        return 0 if finished else interrupts.exit_code


def where(step: int, steps: int) -> str:
    """What a training is told that begins with a checkpoint."""
    if step == steps:
        return f"all {steps} steps are done already; writes the model and the reports of its checkpoint"
    return f"goes on at step {step} of {steps}"


def say(line: str) -> None:
    print(f"train: {line}", flush=True)


def tracker_of(paths: Paths, key: str, description: dict[str, Any], checkpoints: Checkpoints | None) -> Tracker:
    """Of the first rank, which alone has checkpoints; the journal is kept beside them."""
    return open_tracker(paths.journal, key, description, checkpoints.storage) if checkpoints else Tracker()


def identity_of(learner: Learner, paths: Paths) -> dict[str, Any]:
    data_sha256 = Prepared(paths.prepared).description()["sha256"]
    return configuration(learner, data_sha256, hashlib.sha256(paths.split.read_bytes()).hexdigest())


def describe(learner: Learner, identity: dict[str, Any]) -> dict[str, Any]:
    """Params and tags of the tracking run: what determines the result, and what it was computed with."""
    sections = {"model": identity["model"], "train": identity["train"]}
    parameters = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
    immaterial = {f"train.{key}": getattr(learner.train_params, key) for key in sorted(IMMATERIAL)}
    scan = identity["facts"]["scan"]  # which kernel; whether its gradients have a fixed order
    scan_tags = {"hymunet.scan": scan, "hymunet.bit_exact": str("mamba_ssm" not in scan).lower()} if scan else {}
    return {
        "params": parameters,
        "tags": {
            **immaterial,
            "hymunet.data_sha256": identity["data_sha256"],
            "hymunet.split_sha256": identity["split_sha256"],
            "hymunet.code_sha256": identity["code_sha256"],
            "mlflow.source.git.commit": git_commit(closure.ROOT) or "unknown",
            "hymunet.image_size": learner.data.image_size,
            **devices.tags(learner.device, learner.dtype),
            **scan_tags,
            "hymunet.ranks": learner.ranks.count,
        },
    }


class Session:
    """One process's stretch of a run: learns, validates, saves, and stops when told to."""

    def __init__(
        self,
        learner: Learner,
        checkpoints: Checkpoints | None,
        tracker: Tracker,
        interrupts: Interrupts,
        paths: Paths,
        code: compiled_code.CompiledCode | None = None,
    ) -> None:
        self.learner, self.checkpoints, self.tracker, self.interrupts = learner, checkpoints, tracker, interrupts
        self.paths, self.code = paths, code
        learner.engine.stopping = lambda: interrupts.received is not None
        if isinstance(learner.loader, WorkerLoader):
            learner.loader.stopping = learner.engine.stopping
        self.saved_step, self.saved_time = learner.progress.step, time.monotonic()

    def run(self) -> bool:
        """True when the last epoch is done, False when it was interrupted before."""
        learner, steps = self.learner, self.learner.schedule.steps
        if learner.progress.step == steps:
            return True
        stop = False
        with self._bar() as bar:
            readout = Readout(learner.device, self._learnt())
            for batch in learner.batches():
                try:
                    learner.learn(batch)
                    self._look(readout, bar)
                    ends = learner.progress.step % learner.schedule.steps_per_epoch == 0
                    record = learner.finish_epoch() if ends else None
                except Exception:
                    if self.interrupts.received is None:
                        raise
                    if learner.ranks.count > 1:  # a rank that was told, too, may have gone already: none waits for it
                        sys.exit(self.interrupts.exit_code)
                    return False  # torch's C++ compiler got the signal too and died of it: no whole step, or no score
                if record:
                    self._report(record, bar)
                    if self.code:
                        self.code.keep()
                        self.code = None  # step and validation are compiled, and nothing else is
                stop, due = learner.ranks.agree(self.interrupts.received is not None, self._due())
                if stop or due or learner.progress.step == steps:
                    self._save()
                if stop:
                    break
            else:
                self._stopped_waiting()
        return learner.progress.step == steps

    def _stopped_waiting(self) -> None:
        """Batches ended: after the last, or told to stop while the next was waited for.

        Alone, what was learnt is saved. One of several ranks cannot: the others may be in the middle of a step.
        """
        if self.learner.progress.step < self.learner.schedule.steps:
            if self.learner.ranks.count > 1:
                sys.exit(self.interrupts.exit_code)
            self._save()

    def _bar(self) -> tqdm:
        learner = self.learner
        return tqdm(
            total=learner.schedule.steps * learner.train_params.batch_size,
            initial=self._learnt(),
            unit="img",
            desc="train",
            disable=None if learner.ranks.first else True,
            dynamic_ncols=True,
        )

    def _learnt(self) -> int:
        """Images so far. The bar does not count them where no terminal shows it."""
        return self.learner.progress.step * self.learner.train_params.batch_size

    def _look(self, readout: Readout, bar: tqdm) -> None:
        learner = self.learner
        bar.update(learner.train_params.batch_size)
        if not readout.update(learner.progress.step, learner.step.totals):
            return
        learner.check(readout.step, readout.bad_in_a_row)
        progress = learner.progress
        if readout.loss is not None:
            best = f", Dice {progress.history[-1]['validation_dice']:.4f}" if progress.history else ""
            bar.set_postfix_str(f"loss {readout.loss:.4f}{best}", refresh=False)
            self.tracker.metrics(
                readout.step, {"loss": readout.loss, "images_per_second": readout.rate(self._learnt())}
            )

    def _report(self, record: dict[str, Any], bar: tqdm) -> None:
        learner, progress = self.learner, self.learner.progress
        epochs = learner.train_params.epochs
        bar.set_description(f"epoch {record['epoch']}/{epochs}", refresh=False)
        metrics = {key: value for key, value in record.items() if key not in ("epoch", "step") and value is not None}
        metrics["epoch_loss"] = metrics.pop("loss", float("nan"))
        metrics["peak_memory_bytes"] = devices.peak_memory_bytes(learner.device)
        self.tracker.metrics(record["step"], {**metrics, "epoch": record["epoch"]})
        if learner.ranks.first:
            loss = "none finite" if record["loss"] is None else f"{record['loss']:.4f}"
            before = progress.history[-2]["skipped_steps"] if len(progress.history) > 1 else 0
            skipped = record["skipped_steps"] - before
            bar.write(
                f"epoch {record['epoch']}/{epochs}  loss {loss}  Dice {record['validation_dice']:.4f}  "
                f"(best {progress.best_dice:.4f} in epoch {progress.best_epoch})"
                + (f"  {skipped} of {learner.schedule.steps_per_epoch} steps not finite, skipped" if skipped else "")
            )
            if f"{record['epoch']:04d}" in learner.examples:
                self._show(record["epoch"])

    def _show(self, epoch: int) -> None:
        """Reports that cannot be written cost no training: the next ones, and those of its end, hold these as well."""
        try:
            self.tracker.reports(write_reports(self.learner, self.paths.reports))
        except OSError as error:
            log.warning("no reports of epoch %d (%s)", epoch, error)

    def _due(self) -> bool:
        return time.monotonic() - self.saved_time >= 60 * self.learner.train_params.checkpoint_minutes

    def _save(self) -> None:
        """A checkpoint that cannot be written costs no training: the one before stays, the next attempt comes."""
        self.saved_time = time.monotonic()
        if self.checkpoints is None:
            return
        try:
            self.tracker.sync()
            self.checkpoints.save(self.learner.checkpoint())
            self.saved_step = self.learner.progress.step
        except OSError as error:
            step = self.learner.progress.step
            log.warning("no checkpoint at step %d (%s); the last is of step %d", step, error, self.saved_step)


def write_reports(learner: Learner, folder: Path) -> Path:
    subset = learner.data.subset("validation")
    chosen = learner.validation.chosen(EXAMPLES).tolist()
    pairs = [subset[position] for position in chosen]
    images, masks = ([pair[part] for pair in pairs] for part in (0, 1))
    examples = {epoch: (images, masks, predictions) for epoch, predictions in learner.examples.items()}
    reports.write_reports(folder, learner.progress.history, examples)
    return folder


def publish(learner: Learner, identity: dict[str, Any], tracker: Tracker, paths: Paths) -> None:
    """The best weights as a model, and the reports. Repeats itself byte for byte from a finished run's checkpoint."""
    best = models.build(learner.model_params, learner.data.image_size)
    best.load_state_dict(learner.best)
    models.save(
        best,
        {
            "model": learner.model_params.model_dump(),
            "image_size": learner.data.image_size,
            "threshold": 0.5,
            "epoch": learner.progress.best_epoch,
            "validation_dice": learner.progress.best_dice,
            "run_key": run_key(identity),
            "data_sha256": identity["data_sha256"],
            "split_sha256": identity["split_sha256"],
            "code_sha256": identity["code_sha256"],
        },
        paths.model,
    )
    tracker.reports(write_reports(learner, paths.reports))
