"""A Kubeflow Pipelines server: submit, schedule, look, follow. Errors are one line that says what to do."""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hymunet import silence
from hymunet.addresses import holds_secrets, without_secrets

FINISHED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
NODES = {"FAILED", "ERROR", "SYSTEM_ERROR"}
PATIENCE = 10  # answers in a row that may fail before a followed run is given up: a server restarts in less
LOG_LINES = 40


class Unavailable(ValueError):
    """The server did not answer, or answered that it cannot: worth another try."""


class Cluster:
    def __init__(self, client: Any, namespace: str | None, pause: float = 5.0) -> None:
        self.client, self.namespace, self.pause = client, namespace, pause

    @classmethod
    def connect(cls, host: str | None, namespace: str | None, auth: str) -> "Cluster":
        """auth: none, token (KFP_TOKEN), service-account (the pod's own), session (KFP_COOKIES, the browser's)."""
        import kfp.client

        host = host or os.environ.get("KF_PIPELINES_ENDPOINT")
        if not host and auth != "service-account":
            raise ValueError("which Kubeflow? name its address with --host, or set KF_PIPELINES_ENDPOINT")
        if host and holds_secrets(host):
            raise ValueError(
                f"{without_secrets(host)}: the address of Kubeflow holds a user, a password or a query, which are not "
                "sent; leave them out, and see --auth"
            )
        credentials: dict[str, Any] = {}
        if auth == "token":
            credentials["existing_token"] = _from_environment("KFP_TOKEN", auth)
        elif auth == "session":
            credentials["cookies"] = _from_environment("KFP_COOKIES", auth)
        elif auth == "service-account":
            credentials["credentials"] = kfp.client.ServiceAccountTokenVolumeCredentials()
        _bound_requests()
        with warnings.catch_warnings(action="ignore", category=FutureWarning), _readable(host):
            return cls(kfp.client.Client(host=host, namespace=namespace or "kubeflow", **credentials), namespace)

    def submit(self, package: Path, experiment: str, name: str | None, account: str | None = None) -> str:
        """Starts a run; returns its id. account: the service account of its pods; None: Kubeflow's own choice."""
        name = name or f"{package.stem} {datetime.now(UTC):%Y-%m-%d %H-%M-%S}"
        with _readable(self._host()):
            run = self.client.create_run_from_pipeline_package(
                str(package),
                arguments={},
                run_name=name,
                experiment_name=experiment,
                namespace=self.namespace,
                service_account=account,
            )
        return run.run_id

    def schedule(self, package: Path, experiment: str, name: str, cron: str, account: str | None = None) -> str:
        """A recurring run, one at a time; returns its id. cron: six fields, seconds first."""
        if len(cron.split()) != 6:
            raise ValueError(f"--cron {cron!r}: six fields, seconds first, e.g. '0 0 3 * * 1' for Mondays at three")
        with _readable(self._host()):
            chosen = self.client.create_experiment(experiment, namespace=self.namespace)
            made = self.client.create_recurring_run(
                experiment_id=chosen.experiment_id,
                job_name=name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                pipeline_package_path=str(package),
                params={},
                service_account=account,
            )
        return made.recurring_run_id

    def show(self, run_id: str) -> int:
        """Prints the run and its steps. 0: succeeded; 1: failed; 3: still going."""
        run = self._get(run_id)
        print(f"{run.display_name}: {run.state}")
        for name, task in _steps(run):
            print(f"  {name:12} {task.state or '':10} {_duration(task)}")
        return _exit_code(run.state)

    def follow(self, run_id: str) -> int:
        """Prints each step's state as it changes, and the end of a failed step's log; 0 only when the run succeeded."""
        seen: dict[str, str] = {}
        failures = 0
        while True:
            try:
                run = self._get(run_id)
                failures = 0
            except Unavailable as error:
                failures += 1
                if failures == PATIENCE:
                    raise ValueError(f"{error}; gave up after {failures} tries, the run itself may go on") from None
                print(f"{error}; trying again", file=sys.stderr)
                time.sleep(self.pause)
                continue
            for name, task in _steps(run):
                if task.state and seen.get(task.task_id) != task.state:
                    seen[task.task_id] = task.state
                    print(f"{name:12} {task.state} {_duration(task)}", flush=True)
                    if task.state in NODES:
                        print(self._log(run_id, task), flush=True)
            if run.state in FINISHED:
                print(f"run {run_id}: {run.state}" + (f": {run.error.message}" if run.error else ""))
                return _exit_code(run.state)
            time.sleep(self.pause)

    def _get(self, run_id: str) -> Any:
        with _readable(self._host()):
            return self.client.get_run(run_id)

    def _log(self, run_id: str, task: Any) -> str:
        """The last lines of a step's log; what it says instead where the server keeps none."""
        pods = [child.pod_name for child in task.child_tasks or [] if child.pod_name] or [task.pod_name]
        try:
            with _readable(self._host()):
                path = f"/apis/v2beta1/runs/{run_id}/nodes/{pods[-1]}/log"
                text = self.client._run_api.api_client.call_api(
                    path, "GET", response_type="str", auth_settings=["Bearer"], _return_http_data_only=True
                )
        except ValueError as error:
            return f"  (no log: {error})"
        return "\n".join(f"  | {line}" for line in str(text).splitlines()[-LOG_LINES:])

    def _host(self) -> str:
        return self.client._existing_config.host


def _bound_requests() -> None:
    """kfp's client alone would wait for ever for a server that takes connections and says nothing."""
    from kfp_server_api import rest

    class Bounded(rest.RESTClientObject):  # type: ignore[misc]
        def request(self, *args: Any, **options: Any) -> Any:
            bounds = options.pop("_request_timeout", None) or (silence.CONNECT, silence.READ)
            return super().request(*args, **options, _request_timeout=bounds)

    rest.RESTClientObject = Bounded


def _steps(run: Any) -> list[tuple[str, Any]]:
    """The run's containers, in the order in which they began; groups and drivers are Kubeflow's own business."""
    details = (run.run_details.task_details or []) if run.run_details else []
    shown = [
        t for t in details if t.display_name and not t.display_name.endswith("-driver") and t.display_name != "root"
    ]
    return [(t.display_name, t) for t in sorted(shown, key=lambda t: str(t.start_time or t.create_time or "9"))]


def _duration(task: Any) -> str:
    return f"{(task.end_time - task.start_time).total_seconds():.0f} s" if task.start_time and task.end_time else ""


def _exit_code(state: str | None) -> int:
    return {"SUCCEEDED": 0, "FAILED": 1, "CANCELED": 1, "SKIPPED": 1}.get(state or "", 3)


def _from_environment(name: str, auth: str) -> str:
    if not os.environ.get(name):
        raise ValueError(f"--auth {auth} takes its secret from the environment: set {name}")
    return os.environ[name]


@contextmanager
def _readable(host: str | None) -> Iterator[None]:
    """What can go wrong on the way to a server, as one line."""
    import kfp_server_api
    from urllib3.exceptions import HTTPError

    try:
        yield
    except kfp_server_api.ApiException as error:
        said = _message(error)
        if error.status in (401, 403):
            raise ValueError(f"{host}: not allowed ({error.status}): {said}; see --auth and --namespace") from None
        if error.status is None or error.status >= 500:
            raise Unavailable(f"{host}: the server failed ({error.status}): {said}") from None
        raise ValueError(f"{host}: refused ({error.status}): {said}") from None
    except (HTTPError, TimeoutError) as error:
        raise Unavailable(
            f"{host}: no answer: {type(error).__name__}; is the address right, and the way open?"
        ) from None


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"]).splitlines()[0]
    except (TypeError, ValueError, KeyError, IndexError):
        return str(error.reason)
