"""A server that holds callers to the v2beta1 API: requests and answers go through kfp_server_api's own models.

What it is not: Kubeflow. It starts no pods; runs go through the states that a test gives them.
"""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api as api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

TOKEN = "for-tests"
_client = api.ApiClient(api.Configuration())


def parse(body: dict, model: type) -> Any:
    """The request as its model; AssertionError for a field that the API does not have, or that has another type."""
    known = set(model.attribute_map.values())
    assert set(body) <= known, f"{model.__name__} has no {set(body) - known}"
    return _client._ApiClient__deserialize(body, model)


def dump(value: Any) -> bytes:
    return json.dumps(_client.sanitize_for_serialization(value)).encode()


class Kubeflow:
    """`states`: what a run answers, one per question, the last one for good. `faults`: HTTP statuses given
    instead, first.
    """

    def __init__(self, states: list[str], token: str | None = None, faults: list[int] | None = None) -> None:
        self.states, self.token = states, token
        self.faults = faults or []
        self.experiments: dict[str, api.V2beta1Experiment] = {}
        self.runs: dict[str, api.V2beta1Run] = {}
        self.recurring: dict[str, api.V2beta1RecurringRun] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self.answer("GET", {})

            def do_POST(self) -> None:
                self.answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, method: str, body: dict) -> None:
                try:
                    status, content = outer.handle(method, self.path, body, self.headers.get("authorization"))
                except AssertionError as error:
                    status, content = 400, json.dumps({"message": str(error)}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "Kubeflow":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, method: str, target: str, body: dict, authorization: str | None) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        if self.token and authorization != f"Bearer {self.token}":
            return 401, b'{"message": "Request header error: there is no user identity"}'
        match method, path.removeprefix("/apis/v2beta1/").split("/"):
            case "GET", ["healthz"]:
                return 200, dump(api.V2beta1GetHealthzResponse(multi_user=False))
            case "GET", ["experiments"]:
                found = [e for e in self.experiments.values() if e.display_name in query]
                return 200, dump(api.V2beta1ListExperimentsResponse(experiments=found))
            case "POST", ["experiments"]:
                experiment = parse(body, api.V2beta1Experiment)
                experiment.experiment_id = f"experiment-{len(self.experiments)}"
                self.experiments[experiment.experiment_id] = experiment
                return 200, dump(experiment)
            case "POST", ["runs"]:
                return self.start(parse(body, api.V2beta1Run))
            case "GET", ["runs", run] if run in self.runs:
                if self.faults:
                    return self.faults.pop(0), b'{"message": "upstream connect error"}'
                return 200, dump(self.state(self.runs[run]))
            case "GET", ["runs", run, "nodes", node, "log"] if run in self.runs:
                return 200, f"first line\nstep: {node} gave up\n".encode()
            case "POST", ["recurringruns"]:
                recurring = parse(body, api.V2beta1RecurringRun)
                self.check(recurring)
                recurring.recurring_run_id = f"recurring-{len(self.recurring)}"
                self.recurring[recurring.recurring_run_id] = recurring
                return 200, dump(recurring)
        return 404, json.dumps({"message": f"{method} {path} not found"}).encode()

    def start(self, run: api.V2beta1Run) -> tuple[int, bytes]:
        self.check(run)
        run.run_id = f"run-{len(self.runs)}"
        self.runs[run.run_id] = run
        return 200, dump(run)

    def check(self, run: Any) -> None:
        """An experiment that exists, and a pipeline that parses as the backend would parse it, with the known
        parameters.
        """
        assert run.experiment_id in self.experiments, f"experiment {run.experiment_id} not found"
        assert run.display_name
        spec = pipeline_spec_pb2.PipelineSpec()
        json_format.ParseDict(run.pipeline_spec["pipeline_spec"], spec)
        json_format.ParseDict(run.pipeline_spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        unknown = set(run.runtime_config.parameters or {}) - set(spec.root.input_definitions.parameters)
        assert not unknown, f"the pipeline has no parameter {unknown}"

    def state(self, run: api.V2beta1Run) -> api.V2beta1Run:
        run.state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        now = datetime.now(UTC)
        child = api.PipelineTaskDetailChildTask(pod_name="train-pod-1")
        steps = [("root", None), ("download", None), ("train-driver", None), ("train", [child])]
        run.run_details = api.V2beta1RunDetails(
            task_details=[
                api.V2beta1PipelineTaskDetail(
                    run_id=run.run_id,
                    task_id=f"task-{name}",
                    display_name=name,
                    start_time=now,
                    state=run.state if name == "train" else "SUCCEEDED",
                    child_tasks=children,
                )
                for name, children in steps
            ]
        )
        if run.state == "FAILED":
            run.error = api.GoogleRpcStatus(code=2, message="step train failed")
        return run
