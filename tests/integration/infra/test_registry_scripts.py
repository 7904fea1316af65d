"""What infra/kubernetes runs, run for real: the backup and its restoration, the bucket's rules, MLflow's command."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import time
import uuid

import pytest
import requests

from tests.support.manifests import KUBERNETES, containers, manifests, rendered
from tests.support.servers import HOST, QUIET, Server, answers, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def found():
    return manifests(rendered(KUBERNETES / "overlays/workstation"))


def script(found, name, file):
    [text] = [
        one["data"][file] for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].startswith(name)
    ]
    return text


@pytest.fixture
def backup(found, postgresql, tmp_path):
    """Runs the backup on a database; the folder of the dumps, and the run."""
    (tmp_path / "backup.sh").write_text(script(found, "backup", "backup.sh"), encoding="utf-8")
    [container] = [one for name, _, one in containers(found) if name == "CronJob/backup/backup"]
    assert container["command"] == ["bash", "/scripts/backup.sh"]
    folder = tmp_path / "backups"
    folder.mkdir()

    def run(database, **changes):
        variables = {one["name"]: one.get("value", "") for one in container["env"]} | {
            "PATH": f"{postgresql.programs}:{os.environ['PATH']}",
            "PGHOST": HOST,
            "PGPORT": str(postgresql.port),
            "PGUSER": "hymunet",
            "PGDATABASE": database,
            "BACKUPS": str(folder),
        }
        command = ["bash", str(tmp_path / "backup.sh")]
        return subprocess.run(command, env=variables | changes, capture_output=True, text=True, timeout=60)

    return folder, run


def ask(postgresql, database, question):
    import psycopg

    with psycopg.connect(postgresql.uri(database), autocommit=True) as connection:
        answer = connection.execute(question)
        return answer.fetchall() if answer.description else []


def restoration(postgresql):
    """The command that the documentation names."""
    page = (KUBERNETES.parents[1] / "docs/kubernetes.md").read_text(encoding="utf-8")
    [options] = re.findall(r"pg_restore (.*?) -d mlflow", page)
    command = [str(postgresql.programs / "pg_restore"), "-h", HOST, "-p", str(postgresql.port), "-U", "hymunet"]
    return [*command, *options.split()]


def test_a_backup_is_restored(backup, postgresql):
    folder, run = backup
    postgresql.create_database("kept")
    ask(postgresql, "kept", "CREATE TABLE experiments (id int, name text)")
    ask(postgresql, "kept", "INSERT INTO experiments VALUES (1, 'übung'), (2, NULL)")
    old, recent = folder / "mlflow-20200101T000000Z.dump", folder / "mlflow-20990101T000000Z.dump"
    for file, days in ((old, 15), (recent, 13)):
        file.write_bytes(b"a dump")
        os.utime(file, (time.time() - days * 86400 - 60,) * 2)
    done = run("kept")
    assert done.returncode == 0, done.stderr
    assert not old.exists()
    [made] = [file for file in folder.iterdir() if file != recent]
    assert made.stat().st_mode & 0o077 == 0

    ask(postgresql, "kept", "UPDATE experiments SET name = 'changed'")  # what the dump is restored over
    postgresql.create_database("empty")
    for database in ("kept", "empty"):
        subprocess.run([*restoration(postgresql), "-d", database, str(made)], check=True, timeout=60)
        rows = ask(postgresql, database, "SELECT * FROM experiments ORDER BY id")
        assert rows == [(1, "übung"), (2, None)]


def cut_in_half(content):
    return content[: len(content) // 2]


def cut_at_the_end(content):
    return content[:-1]


def one_bit_turned(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def a_page_of_nothing(content):
    middle = len(content) // 2
    return content[:middle] + bytes(4096) + content[middle + 4096 :]


DAMAGES = (cut_in_half, cut_at_the_end, one_bit_turned, a_page_of_nothing)


@pytest.fixture
def filled(postgresql):
    """A database whose dump is rows for the most part, as MLflow's is: no two bytes of them repeat."""
    name = f"filled_{uuid.uuid4().hex[:8]}"
    postgresql.create_database(name)
    ask(postgresql, name, "CREATE TABLE experiments (id int, name text)")
    ask(postgresql, name, "INSERT INTO experiments SELECT i, md5(i::text) FROM generate_series(1, 5000) i")
    return name


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_dump_that_a_disk_damaged_is_no_backup(backup, filled, postgresql, tmp_path, damage):
    """Its list of contents is whole, which is all that `pg_restore --list` reads."""
    folder, run = backup
    old = folder / "mlflow-20200101T000000Z.dump"
    old.write_bytes(b"a dump")
    os.utime(old, (0, 0))
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "pg_dump").write_text(
        f'#!/bin/sh\nset -e\n{postgresql.programs}/pg_dump "$@"\n'
        f'for option; do case $option in --file=*) file="${{option#--file=}}";; esac; done\n'
        f'{sys.executable} {tmp_path}/damage.py "$file"\ncp "$file" {tmp_path}/damaged\n'
    )
    (disk / "pg_dump").chmod(0o755)
    (tmp_path / "damage.py").write_text(
        f"import sys\n\n\n{inspect.getsource(damage)}\n\n"
        f"with open(sys.argv[1], 'rb') as file:\n    content = {damage.__name__}(file.read())\n"
        "with open(sys.argv[1], 'wb') as file:\n    file.write(content)\n"
    )
    done = run(filled, PATH=f"{disk}:{postgresql.programs}:{os.environ['PATH']}")
    assert done.returncode != 0
    assert "the dump cannot be read to its end" in done.stderr
    assert [file.name for file in folder.iterdir()] == [old.name]
    list_of_it = [str(postgresql.programs / "pg_restore"), "--list", str(tmp_path / "damaged")]
    assert "TABLE DATA" in subprocess.run(list_of_it, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dump_that_is_restored_changes_nothing(backup, filled, postgresql, damage):
    folder, run = backup
    assert run(filled).returncode == 0
    [made] = folder.iterdir()
    made.write_bytes(damage(made.read_bytes()))
    ask(postgresql, filled, "INSERT INTO experiments VALUES (0, 'since then')")
    done = subprocess.run([*restoration(postgresql), "-d", filled, str(made)], capture_output=True, timeout=60)
    assert done.returncode != 0
    assert ask(postgresql, filled, "SELECT count(*) FROM experiments") == [(5001,)]


@pytest.mark.parametrize(
    ("database", "changes"),
    [("nothing", {}), ("postgres", {}), ("postgres", {"PGPORT": "1"}), ("postgres", {"BACKUPS": "/nowhere"})],
    ids=["no database", "another database", "no server", "no volume"],
)
def test_a_backup_that_fails_says_so_and_removes_nothing(backup, database, changes):
    folder, run = backup
    old = folder / "mlflow-20200101T000000Z.dump"
    old.write_bytes(b"a dump")
    os.utime(old, (0, 0))
    done = run(database, **changes)
    assert done.returncode != 0
    assert done.stderr
    assert [file.name for file in folder.iterdir()] == [old.name]


def test_what_a_killed_backup_left_goes_even_where_the_next_one_fails(backup):
    folder, run = backup
    left = folder / "mlflow-20260101T000000Z.dump.part"
    left.write_bytes(b"half a dump")
    new = folder / "mlflow-20260102T000000Z.dump.part"
    new.write_bytes(b"of a job that runs now")
    os.utime(left, (time.time() - 3 * 3600,) * 2)
    assert run("nothing").returncode != 0
    assert [file.name for file in folder.iterdir()] == [new.name]


def test_the_bucket_gets_its_rules(found, s3_server, tmp_path):
    for file in ("lifecycle.py", "lifecycle.json"):
        (tmp_path / file).write_text(script(found, "lifecycle", file), encoding="utf-8")
    s3_server.create_bucket("rules")
    environment = os.environ | s3_server.env | {"HYMUNET_BUCKET": "rules"}
    command = [sys.executable, str(tmp_path / "lifecycle.py")]
    for _ in range(2):
        subprocess.run(command, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
    rules = s3_server.client().get_bucket_lifecycle_configuration(Bucket="rules")["Rules"]
    by_name = {rule["ID"]: rule for rule in rules}
    assert len(by_name) == len(rules) == 3
    checkpoints = by_name["checkpoints-of-finished-trainings"]
    assert (checkpoints["Filter"]["Prefix"], checkpoints["Expiration"]["Days"]) == ("checkpoints/", 30)
    missing = subprocess.run(command, env=environment | {"HYMUNET_BUCKET": "none"}, capture_output=True, timeout=60)
    assert missing.returncode != 0


def test_mlflow_starts_by_the_manifest_and_answers_to_its_name(found, postgresql, tmp_path):
    [container] = [one for name, _, one in containers(found) if name == "Deployment/mlflow/mlflow"]
    port, database = free_port(), f"manifest_{os.getpid()}"
    postgresql.create_database(database)
    variables = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    variables["MLFLOW_BACKEND_STORE_URI"] = variables["MLFLOW_BACKEND_STORE_URI"].replace(
        "mlflow@postgres.hymunet-registry.svc:5432/mlflow", f"hymunet@{HOST}:{postgresql.port}/{database}"
    )
    variables["MLFLOW_ARTIFACTS_DESTINATION"] = str(tmp_path / "artifacts")
    command = [shutil.which("mlflow") or "mlflow", *container["command"][1:]]
    command[command.index("5000")] = str(port)
    server = Server(command, lambda: answers(f"http://{HOST}:{port}/health"), tmp_path / "log", QUIET | variables)
    server.start()
    try:
        address = f"http://{HOST}:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        for host, status in (("mlflow.hymunet-registry.svc:5000", 200), ("elsewhere.example", 403)):
            assert requests.get(address, headers={"Host": host}, timeout=30).status_code == status, host
        assert requests.get(f"http://{HOST}:{port}/health", headers={"Host": "10.1.2.3:5000"}, timeout=30).ok
    finally:
        server.stop()
