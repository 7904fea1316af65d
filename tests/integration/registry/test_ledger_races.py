"""Many promoters at once, and promoters killed at any moment, each a process of its own, on SQLite and PostgreSQL."""

import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import signal
import time

import pytest

from hymunet.registry.client import CHAMPION
from hymunet.registry.ledger import Ledger, Outrun, State

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
MODEL, VERSIONS = "raced", [str(number) for number in range(1, 9)]
SLOW = 240  # seconds after which a process says where it is
FORK = multiprocessing.get_context("fork")  # MLflow is imported once; no process opens a database before it forks


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    name = f"races_{os.getpid()}_{request.node.name.partition('[')[0]}"
    return request.getfixturevalue("postgresql").create_database(name)


def opened(uri):
    import mlflow

    mlflow.set_tracking_uri(uri)
    return Ledger(mlflow.MlflowClient(uri, uri), MODEL, lambda: State(0, (), {}))


def there(version):
    return True


def one_step(ledger, choice):
    """Promotes some version, or goes back; returns the entry's number, or None where another one was faster."""
    state = ledger.state()
    back = len(state.champions) > 1 and choice.random() < 0.3
    version = choice.choice(state.champions[:-1]) if back else choice.choice(VERSIONS)
    try:
        return ledger.append("rollback" if back else "promote", version, state).number
    except Outrun:
        return None
    finally:
        ledger.settle(there)


def set_up(uri, where):
    ledger = opened(uri)
    ledger.client.create_registered_model(MODEL)
    for _ in VERSIONS:
        ledger.client.create_model_version(MODEL, "/nowhere")
    ledger.append("promote", "1", ledger.state())
    ledger.settle(there)


def work(uri, where, seed, rounds):
    ledger, choice = opened(uri), random.Random(seed)
    ledger.state()  # connected, and its queries are made
    (where / f"ready-{seed}").touch()
    won = [one_step(ledger, choice) for _ in range(rounds)]
    (where / f"won-{seed}.json").write_text(json.dumps([number for number in won if number is not None]))


def observe(uri, where):
    """What a server that follows the alias would see, until it is told to end."""
    client, seen = opened(uri).client, set()
    while not (where / "end").exists():
        seen.add(client.get_registered_model(MODEL).aliases.get(CHAMPION))
        time.sleep(0.02)
    (where / "seen.json").write_text(json.dumps(sorted(map(str, seen))))


def look(uri, where):
    (where / "found.json").write_text(json.dumps(seen(opened(uri))))


def seen(ledger):
    """The state before and after it was settled."""
    state, entries, alias = ledger.state(), ledger.entries(), ledger.alias()
    settled = ledger.settle(there)
    return {
        "alias": alias,
        "settled": ledger.alias(),
        "champion": settled.champion,
        "numbers": [entry.number for entry in entries],
        "void": state.void,
        "versions": [entry.version for entry in entries if entry.number not in state.void],
        "champions": state.champions,
    }


def begin(act, *arguments):
    process = FORK.Process(target=told_where, args=(act, *arguments), daemon=True)
    process.start()
    return process


def told_where(act, *arguments):
    """Of a process that is still at it after SLOW seconds, what each of its threads does is on standard error."""
    faulthandler.dump_traceback_later(SLOW, exit=False)
    act(*arguments)


def done(act, uri, where):
    process = begin(act, uri, where)
    process.join(1500)
    assert process.exitcode == 0
    return json.loads((where / "found.json").read_text()) if act is look else None


@contextlib.contextmanager
def onlooker(uri, where):
    """A function that has a process which is not killed look at the ledger, now."""
    asked, asks = FORK.Pipe()
    process = begin(answer, uri, where, asked)

    def ask():
        asks.send("look")
        assert asks.poll(1500), "no answer; what it waits for is on standard error"
        return asks.recv()

    try:
        yield ask
    finally:
        asks.send("end")
        process.join(60)
    assert process.exitcode == 0


def answer(uri, where, asked):
    ledger = opened(uri)
    while asked.recv() == "look":
        faulthandler.dump_traceback_later(SLOW, exit=False)
        asked.send(seen(ledger))
        faulthandler.cancel_dump_traceback_later()


def race(uri, where, promoters, rounds):
    import mlflow  # noqa: F401

    done(set_up, uri, where)
    observer = begin(observe, uri, where)
    processes = [begin(work, uri, where, seed, rounds) for seed in range(promoters)]
    for process in processes:
        process.join(3000)
    (where / "end").touch()
    observer.join(60)
    assert [process.exitcode for process in (*processes, observer)] == [0] * (promoters + 1)
    found = done(look, uri, where)
    won = [number for seed in range(promoters) for number in json.loads((where / f"won-{seed}.json").read_text())]
    assert found["numbers"] == list(range(1, promoters * rounds + 2)), (
        "every append is there, under a number of its own"
    )
    assert sorted([1, *won]) == sorted(set(found["numbers"]) - set(found["void"])), "told to have won and having won"
    assert found["alias"] == found["settled"] == found["champion"] == found["versions"][-1]
    assert set(json.loads((where / "seen.json").read_text())) <= set(found["versions"]), "a champion at every moment"


def ready(where, number):
    """When that promoter was ready to begin."""
    while not (where / f"ready-{number}").exists():
        time.sleep(0.005)
    return time.monotonic()


def kills(uri, where, times):
    import mlflow  # noqa: F401

    done(set_up, uri, where)
    choice, moved = random.Random(5), 0
    first = begin(work, uri, where, times, 1)
    span = -ready(where, times)
    first.join(300)
    span += time.monotonic()  # of one append, on this machine and as busy as it is
    with onlooker(uri, where) as ask:
        before = ask()
        for number in range(times):
            victim = begin(work, uri, where, number, 10_000)
            ready(where, number)
            time.sleep(choice.uniform(0, 4 * span))
            os.kill(victim.pid, signal.SIGKILL)
            victim.join(60)
            after = ask()
            assert after["numbers"][: len(before["numbers"])] == before["numbers"], "nothing is lost"
            assert not after["void"]
            assert after["alias"] in after["versions"][-2:], "the old champion, or the new one"
            assert after["settled"] == after["champion"] == after["versions"][-1]
            moved += len(after["numbers"]) > len(before["numbers"])
            before = after
    assert moved > times // 4, "the kills came while it worked"


def test_promoters_at_once_each_win_or_are_told(uri, tmp_path):
    race(uri, tmp_path, 3, 3)


@pytest.mark.parametrize("uri", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_killed_promoter_leaves_the_old_champion_or_the_new_one(uri, tmp_path):
    kills(uri, tmp_path, 4)


@pytest.mark.slow
def test_sixteen_promoters_fifty_times(uri, tmp_path):
    race(uri, tmp_path, 16, 50)


@pytest.mark.slow
def test_a_hundred_kills(uri, tmp_path):
    kills(uri, tmp_path, 100)
