"""DVC's Python interface, as far as it is used: all of it is DVC's own affair and may change with any version.

pyproject.toml pins the exact one; an upgrade begins and ends here. Nothing else imports dvc or calls its private names.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.object_store import give_up_in_time

NOT_RUN = 70  # as in components.cli: another try may help


class CommandFailed(Exception):
    """A stage's command ended with `status`, or could not be run at all."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class PullFailed(Exception):
    """Data could not be had from the remote, or were not what their hash says."""

    status = 74  # as in components.cli: another try may help


def write_config(path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Of a project. Values mean what they say: unquoted, DVC takes `a#b` for `a`, and `a,b` for two."""
    from configobj import ConfigObj

    config = ConfigObj(sections, encoding="utf-8", interpolation=False)
    with path.open("wb") as file:
        config.write(file)


@contextlib.contextmanager
def repo(root: Path) -> Iterator[Any]:
    from dvc.repo import Repo

    give_up_in_time()
    # DVC reads targets against the current folder.
    with contextlib.chdir(root), Repo(str(root)) as opened:
        yield opened


def remote(repo: Any) -> Any:
    return repo.cloud.get_remote()


def stage(repo: Any, name: str) -> Any:
    """ValueError where dvc.yaml cannot be read with the run's parameters."""
    from dvc.exceptions import DvcException

    try:
        return repo.stage.collect(name)[0]
    except DvcException as error:
        raise ValueError(f"stage {name}: {error}; correct the run's parameters (params)") from error


def output_paths(repo: Any) -> list[str]:
    """Of all stages."""
    return [out.def_path for stage in repo.index.stages for out in stage.outs]


def file_dependencies(stage: Any) -> list[Any]:
    """Everything that the stage depends on but parameters."""
    from dvc.dependency import ParamsDependency

    return [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]


def pull(repo: Any, targets: list[str]) -> None:
    """Raises PullFailed."""
    from dvc.exceptions import DvcException

    try:
        repo.pull(targets=targets)
    except DvcException as error:
        raise PullFailed(str(_cause(error))) from error


def reproduce(repo: Any, name: str, force: bool) -> bool:
    """`dvc repro --single-item`; whether the command ran. Raises CommandFailed with its exit status.

    Its inputs are here, and its result was looked for: `--pull` would bring the run cache of every stage of every run.
    """
    from dvc.exceptions import ReproductionError

    with _watching("dvc.stage.run", "Running stage") as ran:
        try:
            repo.reproduce(targets=[name], single_item=True, force=force)
        except ReproductionError as error:
            reason = str(_cause(error))
            raise CommandFailed(reason, exit_status(reason)) from error
    return bool(ran)


def exit_status(reason: str) -> int:
    """Of the stage's command, out of what DVC says of it; a signal n is 128 + n, as a shell has it."""
    found = re.search(r"exited with (-?\d+)$", reason)
    status = int(found[1]) if found else NOT_RUN
    return 128 - status if status < 0 else status


def push(repo: Any, remote: Any, name: str) -> None:
    """Outputs and run cache of the stage go to the shared remote; what is there already is not sent again."""
    repo.push(targets=[name], run_cache=True)
    # DVC takes a folder for whole when its listing is in the remote; a file of it may have been lost.
    made = _digests(stage(repo, name))
    cache = repo.cache.local
    for digest in made - set(remote.odb.list_oids_exists(made)):
        remote.odb.add(cache.oid_to_path(digest), cache.fs, digest)


def read_object(remote: Any, digest: str) -> Any:
    """A JSON object of the remote's store by its hash."""
    odb = remote.odb
    return json.loads(odb.fs.cat_file(odb.oid_to_path(digest)))


def hash_from_disk(dep: Any) -> bool:
    """Gives a dependency that lies here its hash; False when it does not. ValueError for parameters that lack it."""
    from dvc.dependency.param import MissingParamsError

    if not dep.exists:
        return False
    try:
        dep.save()
    except MissingParamsError as error:
        raise ValueError(f"{error} Correct the run's parameters (params)") from error
    return True


def give_hash(dep: Any, digest: str) -> None:
    """To a dependency that need not be here."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    dep.hash_info, dep.meta = HashInfo("md5", digest), Meta(isdir=digest.endswith(".dir"))


def run_cache_key(stage: Any) -> str:
    """Of a stage whose dependencies have their hashes."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    return _get_cache_hash(to_single_stage_lockfile(stage), key=True)


def run_cache_entries(repo: Any, remote: Any, key: str) -> Iterator[dict[str, Any]]:
    """Lock entries that the remote's run cache has under one key, newest first; DVC's own pull brings all keys'."""
    from dvc.exceptions import DvcException

    odb = remote.legacy_odb  # where DVC keeps the run cache
    folder = odb.fs.join(odb.path, "runs", key[:2], key)
    if not odb.fs.exists(folder):
        return
    for path in sorted(odb.fs.find(folder), key=lambda path: (odb.fs.modified(path), path), reverse=True):
        value = odb.fs.name(path)
        target = Path(repo.stage_cache._get_cache_path(key, value))
        try:
            content = odb.fs.cat_file(path)
        except FileNotFoundError:  # taken away since it was listed
            continue
        repo.cache.legacy.makedirs(str(target.parent))
        target.write_bytes(content)
        entry = None
        with contextlib.suppress(DvcException):  # no text
            entry = repo.stage_cache._load_cache(key, value)
        if entry and "outs" in entry:
            yield entry
        else:  # damaged: DVC would stumble over it, and over a folder that is empty
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                target.parent.rmdir()


def outputs_in_remote(repo: Any, remote: Any, stage: Any, entry: dict[str, Any]) -> bool:
    """Whether every object that a lock entry of the stage names is there."""
    from dvc.exceptions import CollectCacheError

    try:
        wanted = _digests(repo.stage_cache._create_stage(entry, wdir=stage.wdir))
    except CollectCacheError:  # the listing of a folder is gone
        return False
    # Asked of the remote itself: DVC's status would trust an index that it keeps on this machine.
    return bool(wanted) and wanted == set(remote.odb.list_oids_exists(wanted))


def _digests(stage: Any) -> set[str]:
    return {info.value for infos in stage.get_used_objs().values() for info in infos}


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _watching(logger: str, start: str) -> Iterator[list[str]]:
    """Collects the messages of a logger that begin with `start`: DVC tells only its log whether a command ran."""
    seen: list[str] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.msg.startswith(start):
                seen.append(record.getMessage())

    watch = Watch()
    logging.getLogger(logger).addHandler(watch)
    try:
        yield seen
    finally:
        logging.getLogger(logger).removeHandler(watch)
