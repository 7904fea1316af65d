"""Is this stage's result in the shared remote already? Answered from hashes alone.

`dvc repro --pull` pulls a stage's inputs before it looks into the run cache: to learn that `prepare` is done, it
would fetch the whole raw data. The locks of the stages before hold the same hashes, so the key can be had without a
byte of data.
"""

import json
from pathlib import PurePosixPath
from typing import Any


def find(repo: Any, remote: Any, name: str, upstream: dict[str, Any]) -> dict[str, Any] | None:
    """The stage's lock entry as computed earlier, by anyone, with these very inputs; None when it must be computed.

    `upstream`: lock entries of the stages before. An entry counts only if all its outputs are in the remote.
    """
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    stage = repo.stage.collect(name)[0]
    if not _known(remote, stage, upstream):
        return None
    key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
    for value in _fetch_entries(repo, remote, key):
        entry = repo.stage_cache._load_cache(key, value)
        if entry and _outputs_in_remote(repo, remote, stage, entry):
            return entry
    return None


def _known(remote: Any, stage: Any, upstream: dict[str, Any]) -> bool:
    """Gives each dependency its hash: from the image's own files, or from the lock of the stage that made it."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    outs = {out["path"]: out["md5"] for entry in upstream.values() for out in entry.get("outs", [])}
    for dep in stage.deps:
        if dep.exists:
            dep.save()
        elif digest := _digest(remote, dep.def_path, outs):
            dep.hash_info, dep.meta = HashInfo("md5", digest), Meta(isdir=digest.endswith(".dir"))
        else:
            return False
    return True


def _digest(remote: Any, path: str, outs: dict[str, str]) -> str | None:
    """An output's hash, or that of a file inside of an output that is a folder."""
    if path in outs:
        return outs[path]
    for out, digest in outs.items():
        if path.startswith(f"{out}/") and digest.endswith(".dir"):
            inside = PurePosixPath(path).relative_to(out).as_posix()
            return {file["relpath"]: file["md5"] for file in listing(remote, digest)}.get(inside)
    return None


def listing(remote: Any, digest: str) -> list[dict[str, str]]:
    """A folder's files, `{"relpath", "md5"}`, from the small object that lists them."""
    odb = remote.odb
    return json.loads(odb.fs.cat_file(odb.oid_to_path(digest)))


def _fetch_entries(repo: Any, remote: Any, key: str) -> list[str]:
    """Brings the run cache's entries under one key, newest first; DVC's own pull brings them all."""
    odb = remote.legacy_odb  # where DVC keeps the run cache
    folder = odb.fs.join(odb.path, "runs", key[:2], key)
    if not odb.fs.exists(folder):
        return []
    found = sorted(odb.fs.find(folder), key=lambda path: (odb.fs.modified(path), path), reverse=True)
    for path in found:
        target = repo.stage_cache._get_cache_path(key, odb.fs.name(path))
        repo.cache.legacy.makedirs(repo.cache.legacy.fs.parent(target))
        odb.fs.get_file(path, target)
    return [odb.fs.name(path) for path in found]


def _outputs_in_remote(repo: Any, remote: Any, stage: Any, entry: dict[str, Any]) -> bool:
    from dvc.exceptions import CollectCacheError

    cached = repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    try:
        wanted = {info.value for infos in cached.get_used_objs().values() for info in infos}
    except CollectCacheError:  # the listing of a folder is gone
        return False
    # Asked of the remote itself: DVC's status would trust an index that it keeps on this machine.
    return bool(wanted) and wanted == set(remote.odb.list_oids_exists(wanted))
