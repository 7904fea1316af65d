"""One journal on its way to one MLflow run.

Every point arrives once, in one run per training, whatever fails on the way. How: the run is found by its tag
`hymunet.run_key` (or adopted from MLFLOW_RUN_ID) before one is created; how far the journal is delivered is noted
after each batch; and before a batch is sent again, by this process or another, the server is asked which points it has.
Where the run that was noted is no more, because it was deleted or the store is another one, the journal is delivered
from its beginning to a new one.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hymunet import atomic
from hymunet.addresses import without_secrets
from hymunet.mlflow_store.address import RUN_KEY_TAG, public_tracking_uri, tracking_uri, without_a_home
from hymunet.mlflow_store.errors import for_good
from hymunet.mlflow_store.experiment import experiment_id
from hymunet.mlflow_store.store import prepare
from hymunet.training.tracking.journal import parse
from hymunet.training.tracking.keeper import DELIVERED, JOURNAL

BATCH = 500  # points in one request; MLflow takes up to 1,000
GONE = "was deleted there"


class Delivery:
    """`step` sends what is new; it raises when the server cannot take it. `say` hears what a person should know."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda line: None) -> None:
        self.folder, self.say = folder, say
        self.place = folder / DELIVERED
        self.offset, self.run_id = 0, ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(self.place.read_text(encoding="utf-8"))
            public = without_secrets(state["uri"])
            if public != state["uri"]:  # noted by an earlier version
                state["uri"] = public
                atomic.write(self.place, json.dumps(state))
            if public == public_tracking_uri():
                self.offset, self.run_id = state["offset"], state["run_id"]
        self.confirmed: dict[str, set[int]] = {}  # steps of each metric that the server is known to have
        self.connected = False
        self.sent = 0  # records

    def waiting(self) -> int:
        return len(self._pending()[0])

    def step(self) -> bool:
        """Sends one batch; False when there was nothing to send."""
        if not self._pending()[0]:
            return False
        self.connect()
        records, offsets = self._pending()
        try:
            count = self._send(records)
        except Exception as error:
            self.connected = not for_good(error)  # else the run may be another one's to look for
            raise
        self.sent += count
        self.offset = offsets[count - 1]
        # Of stores whose addresses differ in what is left out, one alone has the run.
        state = {"uri": public_tracking_uri(), "run_id": self.run_id, "offset": self.offset}
        atomic.write(self.place, json.dumps(state))
        return True

    def _pending(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Whole lines not yet delivered, and where each ends."""
        records, offsets = [], []
        with (self.folder / JOURNAL).open("rb") as file:
            file.seek(self.offset)
            end = self.offset
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                records.append((parse(line) or [{}])[0])
                offsets.append(end)
        return records, offsets

    def connect(self) -> None:
        """Finds the run, or makes one; where the run that was noted is no more, nothing counts as delivered."""
        if self.connected:
            return
        without_a_home()

        from mlflow import MlflowClient

        prepare(tracking_uri())
        self.client = MlflowClient(tracking_uri())
        key = self.folder.name
        run_id = os.environ.get("MLFLOW_RUN_ID") or self.run_id
        if run_id and (gone := self._gone(run_id)):
            if gone == GONE and not self._pending()[0]:
                self.say(f"its run {run_id} {gone}; to bring it back: mlflow runs restore --run-id {run_id}")
                return
            self.say(f"its run {run_id} {gone}; all of it goes to another")
            run_id, self.offset, self.confirmed = "", 0, {}
        self.run_id = run_id or self._find(key)
        if self.client.get_run(self.run_id).data.tags.get(RUN_KEY_TAG) != key:
            self.client.set_tag(self.run_id, RUN_KEY_TAG, key)
        self.connected = True

    def _gone(self, run_id: str) -> str:
        """Why a run takes nothing more; empty where it does."""
        from mlflow.exceptions import MlflowException

        try:
            return "" if self.client.get_run(run_id).info.lifecycle_stage == "active" else GONE
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return f"is not in {public_tracking_uri()}"

    def _find(self, key: str) -> str:
        experiment = experiment_id(self.client)
        found = self.client.search_runs([experiment], f"tags.`{RUN_KEY_TAG}` = '{key}'", order_by=["start_time ASC"])
        if found:
            return found[0].info.run_id
        return self.client.create_run(experiment, tags={RUN_KEY_TAG: key}, run_name=f"train-{key[:8]}").info.run_id

    def _send(self, records: list[dict[str, Any]]) -> int:
        """Sends the first record that is no metric, or as many metrics as fit a request; returns how many records.

        A record of more metrics than that is sent alone, in several requests.
        """
        from mlflow.entities import Metric, Param, RunTag

        first = records[0]
        if "run" in first:
            params = [Param(key, str(value)) for key, value in first["run"].get("params", {}).items()]
            tags = [RunTag(key, str(value)) for key, value in first["run"].get("tags", {}).items()]
            self.client.log_batch(self.run_id, params=params, tags=tags)
            self.client.update_run(self.run_id, "RUNNING")
        elif "status" in first:
            self.client.set_terminated(self.run_id, first["status"], end_time=first["time"])
        elif "reports" in first and Path(first["reports"]).is_dir():
            self.client.log_artifacts(self.run_id, first["reports"], "training")
        if "metrics" not in first:
            return 1
        points: list[Metric] = []
        count = 0
        for record in records:
            if "metrics" not in record:
                break
            fresh = [
                Metric(key, value, record["time"], record["step"])
                for key, value in record["metrics"].items()
                if record["step"] not in self._confirmed(key)
            ]
            if points and len(points) + len(fresh) > BATCH:
                break
            points += fresh
            count += 1
        for start in range(0, len(points), BATCH):  # more than one where a single record is larger
            self._log(points[start : start + BATCH])
        return count

    def _log(self, points: list[Any]) -> None:
        try:
            self.client.log_batch(self.run_id, metrics=points)
        except BaseException:
            self.confirmed.clear()  # some of them may have arrived
            raise
        for point in points:
            self.confirmed[point.key].add(point.step)

    def _confirmed(self, key: str) -> set[int]:
        if key not in self.confirmed:
            self.confirmed[key] = {point.step for point in self.client.get_metric_history(self.run_id, key)}
        return self.confirmed[key]
