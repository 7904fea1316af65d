"""Is this stage's result in the shared remote already? Answered from hashes alone.

`dvc repro --pull` pulls a stage's inputs before it looks into the run cache: to learn that `prepare` is done, it
would fetch the whole raw data. The locks of the stages before hold the same hashes, so the key can be had without a
byte of data.
"""

from pathlib import PurePosixPath
from typing import Any

from pipelines import dvc_compat as dvc


def find(repo: Any, remote: Any, name: str, upstream: dict[str, Any]) -> dict[str, Any] | None:
    """The stage's lock entry as computed earlier, by anyone, with these very inputs; None when it must be computed.

    `upstream`: lock entries of the stages before. An entry counts only if all its outputs are in the remote.
    """
    stage = dvc.stage(repo, name)
    if not _known(remote, stage, upstream):
        return None
    for entry in dvc.run_cache_entries(repo, remote, dvc.run_cache_key(stage)):
        if dvc.outputs_in_remote(repo, remote, stage, entry):
            return entry
    return None


def _known(remote: Any, stage: Any, upstream: dict[str, Any]) -> bool:
    """Gives each dependency its hash: from the image's own files, or from the lock of the stage that made it."""
    outs = {out["path"]: out["md5"] for entry in upstream.values() for out in entry.get("outs", [])}
    for dep in stage.deps:
        if dvc.hash_from_disk(dep):
            continue
        if not (digest := _digest(remote, dep.def_path, outs)):
            return False
        dvc.give_hash(dep, digest)
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
    return dvc.read_object(remote, digest)
