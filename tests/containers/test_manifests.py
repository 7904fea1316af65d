"""infra/kubernetes' own pods, started in an engine as the manifests say: an ordinary user, read-only root, no rights.

PostgreSQL, MLflow on it with its files in S3, the nightly backup and its way back, the bucket's rules.
"""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers import composed
from tests.containers.pods import Engine, playing
from tests.containers.stack import build
from tests.support.manifests import KUBERNETES, containers, manifests, rendered

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(1800)]
SECRETS = {
    "mlflow-database": {"password": "p@ss/w:rd"},
    "hymunet": {"AWS_ACCESS_KEY_ID": "store", "AWS_SECRET_ACCESS_KEY": "s3cret/x"},
}
USES = """
import json, os, tempfile, mlflow
from mlflow import MlflowClient
client = MlflowClient("http://mlflow.hymunet-registry.svc:5000")
if not client.search_registered_models():
    run = client.create_run("0").info
    with tempfile.TemporaryDirectory() as folder:
        open(f"{folder}/weights", "w").write("of a model")
        client.log_artifacts(run.run_id, folder, "model")
    client.create_registered_model("hymunet")
    client.create_model_version("hymunet", f"{run.artifact_uri}/model", run.run_id)
print(json.dumps([version.version for version in client.search_model_versions("name = 'hymunet'")]))
"""
BUCKET = """
import boto3
boto3.client("s3").create_bucket(Bucket="hymunet")
"""
KEYS = """
import boto3
print([one["Key"] for one in boto3.client("s3").list_objects_v2(Bucket="hymunet")["Contents"]])
"""


@pytest.fixture(scope="module")
def cluster(engine: str, pulled: None, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    build("tracking", project)
    found = manifests(rendered(KUBERNETES / "overlays/workstation"))
    cluster = Engine(engine, found, SECRETS, tmp_path_factory.mktemp("pods"))
    with playing(cluster, ["mlflow", "postgres", "backup", "lifecycle", "store"]):
        start_store(cluster)
        cluster.play("StatefulSet/postgres", detach=True)
        wait(cluster, "postgres", lambda: probe_of(cluster, "postgres"))
        cluster.play("Deployment/mlflow", detach=True)
        wait(cluster, "mlflow", lambda: healthy(cluster))
        yield cluster


STORE = """
printf %s "$CONFIG" >/tmp/s3.json
exec weed server -dir=/tmp -volume.max=0 -s3 -s3.port=9000 -s3.config=/tmp/s3.json
"""


def start_store(cluster: Engine) -> None:
    """S3 at the address that the overlay names."""
    key = {"accessKey": "store", "secretKey": "s3cret/x"}
    config = json.dumps({"identities": [{"credentials": [key], "actions": ["Admin", "Read", "Write", "List"]}]})
    line = ["run", "--detach", "--name", "store", "--network", cluster.network]
    line += ["--network-alias", "seaweedfs.kubeflow.svc", "--env", f"CONFIG={config}", "--entrypoint", "sh"]
    cluster.run(*line, composed.image("s3"), "-c", STORE)
    wait(cluster, "store", lambda: cluster.play("CronJob/lifecycle", "python", "-c", BUCKET).returncode == 0)


def wait(cluster: Engine, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not ready():
        log = cluster.run("logs", "--tail", "40", name)
        assert cluster.state(name)["Running"], log.stdout + log.stderr
        assert time.monotonic() < deadline, log.stdout + log.stderr
        time.sleep(1)


def probe_of(cluster: Engine, name: str) -> bool:
    [container] = [one for place, _, one in containers(cluster.found) if place.startswith(f"StatefulSet/{name}/")]
    return cluster.run("exec", name, *container["readinessProbe"]["exec"]["command"], check=False).returncode == 0


def healthy(cluster: Engine) -> bool:
    """As the kubelet asks: by the pod's address."""
    try:
        return urllib.request.urlopen(f"http://{cluster.address('mlflow')}:5000/health", timeout=4).status == 200
    except OSError:
        return False


def client(cluster: Engine, program: str) -> str:
    """Run in a pod of the same network."""
    done = cluster.play("CronJob/lifecycle", "python", "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pod_registers_by_the_services_name_and_files_go_to_the_store(cluster: Engine) -> None:
    assert [int(number) for number in json.loads(client(cluster, USES))] == [1]
    assert "mlflow/0/" in client(cluster, KEYS)


def test_mlflow_stays_within_its_memory(cluster: Engine) -> None:
    state = cluster.state("mlflow")
    assert (state["Running"], state["OOMKilled"]) == (True, False)


def test_the_buckets_rules_are_set_by_the_job(cluster: Engine) -> None:
    done = cluster.play("CronJob/lifecycle")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("s3://hymunet: ")


def test_a_dump_is_made_and_brings_the_registry_back(cluster: Engine) -> None:
    """The backup's job, then the restoration as docs/kubernetes.md says it, with MLflow stopped."""
    client(cluster, USES)
    done = cluster.play("CronJob/backup")
    assert done.returncode == 0, done.stderr
    dump = done.stdout.partition(":")[0]
    assert dump.startswith("/backups/mlflow-")
    psql = ["psql", "-v", "ON_ERROR_STOP=1", "-c"]
    lost = cluster.play("CronJob/backup", *psql, "DELETE FROM model_versions; DELETE FROM registered_models")
    assert lost.returncode == 0, lost.stderr
    cluster.stop("mlflow")
    command = ["pg_restore", "--clean", "--if-exists", "--single-transaction", "--no-owner", "-d", "mlflow", dump]
    assert f"{' '.join(command[:-1])} " in (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text(encoding="utf-8")
    restored = cluster.play("CronJob/backup", *command)
    assert restored.returncode == 0, restored.stderr
    cluster.play("Deployment/mlflow", detach=True)
    wait(cluster, "mlflow", lambda: healthy(cluster))
    assert len(json.loads(client(cluster, USES))) == 1


def test_another_pod_on_the_same_volume_has_the_same_registry(cluster: Engine) -> None:
    before = client(cluster, USES)
    cluster.run("stop", "--time", "60", "postgres")
    assert cluster.state("postgres")["ExitCode"] == 0, "it ends by itself within its grace period"
    cluster.stop("postgres")
    cluster.play("StatefulSet/postgres", detach=True)
    wait(cluster, "postgres", lambda: probe_of(cluster, "postgres"))
    assert client(cluster, USES) == before
