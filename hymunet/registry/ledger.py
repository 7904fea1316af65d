"""The ledger of a model's champions: append-only, over MLflow's API alone, safe against others who promote meanwhile.

An entry is a version of the registered model NAME.ledger. Its number is handed out by MLflow's database, once, also to
entries that were deleted; the entry and its tags are written in one transaction. An entry that changes the champion
names the entry which it follows: of two that follow the same one, the lower number counts and the other is void. So the
champion is a function of the ledger, the same for every reader, and the alias is its shadow: whoever appends sets it,
reads the ledger again, and sets it again until both agree. Whoever is killed in between leaves the alias at an earlier
champion, which the next one, or `verify`, sets right.
"""

import getpass
import hashlib
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from hymunet import silence
from hymunet.mlflow_store.account import account
from hymunet.registry.client import CHAMPION, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")
SUFFIX = ".ledger"
TAG = "hymunet.ledger"  # of an entry: its content, as JSON
ONCE = "hymunet.ledger.once"  # of an entry: which append wrote it
CONTENT = "hymunet.content"  # of a version: hash of what it is, as registering it says
CHANGES = ("promote", "override", "rollback")  # the others say what was decided and change nothing
ACKNOWLEDGE = "acknowledge"
KINDS = (*CHANGES, "refuse", "request", ACKNOWLEDGE)
DELETED = "deleted"  # what became of an entry, as an acknowledgement states it; else the hash of what its tag says now
BUSY = (  # what two writers at once, or one more than a database takes, look like; none is for good
    "giving up after",
    "unique constraint",
    "uniqueviolation",
    "duplicate key",
    "database is locked",
    "deadlock",
    "could not serialize",
)
FAILED = "too many 50"  # what a server made of one of these; or it fails for good
PATIENCE = 120.0  # seconds; for a server that fails, as long as for one that says nothing


@dataclass(frozen=True)
class Entry:
    """kind: one of KINDS. after: the number of the entry whose champion it replaces, or 0.

    content: hash of the version's, by which it is known again; empty where it says none.
    images: hash of the test images that decided. against: the champion then. before: of the first entry alone, the
    champions that there were without a ledger. decision: gates with figures. by, reason: as was said. accepted: of an
    acknowledgement, the numbers of entries that were deleted or changed -> what became of each.
    """

    number: int
    kind: str
    version: str
    after: int
    content: str = ""
    against: str = ""
    images: str = ""
    reason: str = ""
    by: str = ""
    when: str = ""
    before: tuple[str, ...] = ()
    taken_back: Mapping[str, str] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """entries: in order of their numbers. changed: numbers of those that do not read as one -> what the tag says."""

    entries: list[Entry]
    changed: Mapping[int, str]

    @property
    def faults(self) -> dict[int, str]:
        """Numbers of entries that were deleted or changed -> what became of each, as an acknowledgement states it."""
        numbers = {entry.number for entry in self.entries} | self.changed.keys()
        gone = {number: DELETED for number in range(1, max(numbers, default=0)) if number not in numbers}
        return gone | {number: hashlib.sha256(text.encode()).hexdigest() for number, text in self.changed.items()}

    def accepted(self, number: int) -> Entry | None:
        """The acknowledgement of a fault as it is now."""
        became = self.faults[number]
        return next((entry for entry in self.entries if entry.accepted.get(str(number)) == became), None)

    def unaccepted(self) -> dict[int, str]:
        """The faults that nobody has acknowledged."""
        return {number: state for number, state in sorted(self.faults.items()) if self.accepted(number) is None}


@dataclass(frozen=True)
class State:
    """head: the entry that made the champion, 0 before the first. champions: in order, the present one last.

    taken_back: version -> which came back in its place. void: entries that came second; lost: numbers whose entries
    were deleted.
    """

    head: int
    champions: tuple[str, ...]
    taken_back: Mapping[str, str]
    void: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()

    @property
    def champion(self) -> str | None:
        return self.champions[-1] if self.champions else None


class Outrun(ValueError):
    """Another one changed the champion meanwhile."""


def fold(entries: list[Entry], before: State) -> State:
    """The state after the entries, in order of their numbers. before: what there was without a ledger."""
    numbers = {entry.number for entry in entries}
    lost = tuple(number for number in range(1, max(numbers, default=0)) if number not in numbers)
    head, champions, taken_back, void = 0, before.champions, dict(before.taken_back), []
    for entry in entries:
        if entry.kind not in CHANGES:
            continue
        if entry.after != head and not (entry.after in lost and head < entry.after < entry.number):
            void.append(entry.number)
            continue
        if head == 0 and entry.after == 0:
            champions, taken_back = entry.before, dict(entry.taken_back)
        head = entry.number
        if entry.kind == "rollback":
            there = len(champions) - 1 - champions[::-1].index(entry.version) if entry.version in champions else -1
            taken_back |= {version: entry.version for version in champions[there + 1 :] if version != entry.version}
            champions = (*champions[: there + 1],) if there >= 0 else (*champions, entry.version)
        else:
            champions = (*champions, entry.version)
        taken_back.pop(entry.version, None)
    return State(head, champions, taken_back, tuple(void), lost)


class Ledger:
    """Of one registered model. legacy: reads the champions of a registry without a ledger, from its own records."""

    def __init__(self, client: "MlflowClient", model: str, legacy: Callable[[], State]) -> None:
        self.client, self.model, self.name, self.legacy = client, model, model + SUFFIX, legacy

    def entries(self) -> list[Entry]:
        """As `sound`."""
        return self.sound().entries

    def sound(self) -> Reading:
        """All entries, in order. ValueError for one that was changed and is not acknowledged."""
        reading = self.read()
        for number in reading.changed.keys() & reading.unaccepted().keys():
            raise ValueError(
                f"version {number} of {self.name} is no entry of a ledger: its tag {TAG} is missing or was changed; "
                f"put the tag back as it was, or {remedy(number)}"
            )
        return reading

    def read(self) -> Reading:
        """With what was changed by hand, which counts for nothing."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self.client.search_model_versions(
                f"name = '{self.name}'", 1000, order_by=["version_number ASC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                break
        entries, changed = [], {}
        for version in sorted(found, key=lambda one: int(one.version)):
            number, text = int(version.version), version.tags.get(TAG, "")
            try:
                entries.append(_read(number, text))
            except (KeyError, TypeError, ValueError):
                changed[number] = text
        return Reading(entries, changed)

    def state(self) -> State:
        """ValueError, too, where entries are of versions that are gone and others have their numbers."""
        entries = self.entries()
        for problem in self.others(entries):
            raise ValueError(problem)
        return self.state_of(entries)

    def others(self, entries: list[Entry]) -> list[str]:
        """A line for each version that is another one than that of its number which an entry is of, as where a model
        was deleted and made anew: what was decided then would be taken for decided about these."""
        known = {entry.version: entry for entry in entries if entry.content}
        if not known:
            return []
        found = self._contents()
        return [
            f"{self.model} version {version} is not the one that entry {entry.number} of {self.name} is of (its tag "
            f"{CONTENT} is another): where the model was deleted and made anew, delete {self.name}, too, or take "
            "another name; else put the tag back"
            for version, entry in known.items()
            if found.get(version, entry.content) != entry.content
        ]

    def _contents(self) -> dict[str, str]:
        """Of each version that there is."""
        found = self.client.search_model_versions(f"name = '{self.model}'")
        return {str(one.version): one.tags.get(CONTENT, "") for one in found}

    def state_of(self, entries: list[Entry]) -> State:
        changed = any(entry.kind in CHANGES for entry in entries)
        return fold(entries, State(0, (), {}) if changed else self.legacy())

    def append(self, kind: str, version: str, state: State, **said: Any) -> Entry:
        """An entry that follows `state`; for `Entry`'s other fields see there. Returns it with its number.

        version: may be empty for what changes nothing.

        Raises Outrun when it changes the champion and another entry came first: then it is void.
        """
        content = {"kind": kind, "version": version, "after": state.head, "against": state.champion or "", **said}
        content |= {"content": _again(self._contents).get(version, "")}
        content |= {"by": who(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
        if state.head == 0:
            content |= {"before": list(state.champions), "taken_back": dict(state.taken_back)}
        once = secrets.token_hex(16)
        tags = {TAG: json.dumps(content, sort_keys=True), ONCE: once}
        _again(self._there)

        def write() -> None:
            if not self.client.search_model_versions(f"name = '{self.name}' and tags.`{ONCE}` = '{once}'"):
                source = f"models:/{self.model}/{version}" if version else f"ledger:/{self.model}"
                self.client.create_model_version(self.name, source, tags=tags)

        _again(write)
        written = self.client.search_model_versions(f"name = '{self.name}' and tags.`{ONCE}` = '{once}'")
        own = {int(found.version) for found in written}  # two, where an answer was lost and the request repeated
        entries = {entry.number: entry for entry in self.read().entries}
        after = fold(list(entries.values()), State(0, (), {}))
        standing = sorted(own - set(after.void))
        if not standing:
            rival = entries[after.head]
            raise Outrun(
                f"{rival.by} made version {rival.version} champion of {self.model} meanwhile (entry {rival.number}, "
                f"{rival.kind}); nothing was changed: look at it, then decide again"
            )
        return entries[standing[0]]

    def settle(self, there: Callable[[str], bool]) -> State:
        """Sets the alias to the ledger's champion until both agree. there: whether a version still exists."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            state = _again(self.state)
            champion = state.champion
            if state.head == 0 or champion is None or self.alias() == champion or not there(champion):
                return state
            _again(lambda: self.client.set_registered_model_alias(self.model, CHAMPION, champion))  # noqa: B023
        raise Unavailable(f"{self.model}: the alias {CHAMPION} is moved faster than it can be read; try again")

    def alias(self) -> str | None:
        version = _again(lambda: self.client.get_registered_model(self.model)).aliases.get(CHAMPION)
        return None if version is None else str(version)

    def _there(self) -> None:
        from mlflow.exceptions import MlflowException

        if self.client.search_registered_models(f"name = '{self.name}'"):
            return
        try:
            self.client.create_registered_model(
                self.name, description=f"Decisions on {self.model}, appended; read by: hymunet models history"
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def remedy(number: int) -> str:
    """Of an entry that was deleted or changed, and stays so."""
    return f"find out who did it and accept it: hymunet models acknowledge {number} --reason WHY"


def _read(number: int, text: str) -> Entry:
    """KeyError, TypeError or ValueError for what `append` does not write."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise TypeError(text)
    before = content.pop("before", [])
    entry = Entry(number=number, **content)
    texts: tuple[object, ...] = (entry.version, entry.content, entry.against, entry.images)
    texts += (entry.reason, entry.by, entry.when)
    for more in (entry.taken_back, entry.accepted):
        texts += (*more.keys(), *more.values()) if _mapping(more) else (None,)
    texts += tuple(before)
    gates = entry.decision.get("gates", []) if _mapping(entry.decision) else None
    sound = isinstance(before, list) and isinstance(gates, list) and all(_mapping(gate) for gate in gates)
    if not (sound and entry.kind in KINDS and type(entry.after) is int and all(isinstance(one, str) for one in texts)):
        raise ValueError(text)
    return replace(entry, before=tuple(before))


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def who() -> str:
    """As whom this process acts; a claim, since MLflow without accounts knows nobody."""
    try:
        return account() or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _again(action: Callable[[], T]) -> T:
    """Repeats what failed because another one wrote at the same moment, or may have."""
    from mlflow.exceptions import MlflowException

    begin = time.monotonic()
    for wait in _waits():
        try:
            return action()
        except MlflowException as error:
            said = str(error).lower()
            failed = FAILED in said and time.monotonic() - begin < silence.READ
            if not failed and not any(sign in said for sign in BUSY):
                raise
            time.sleep(wait)
    return action()


def _waits() -> Iterator[float]:
    deadline, wait = time.monotonic() + PATIENCE, 0.02
    while time.monotonic() < deadline:
        yield wait * random.uniform(0.5, 1.5)
        wait = min(1.0, 2 * wait)
