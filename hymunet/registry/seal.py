"""What a version consists of, file by file with hashes, and who vouches for it with an Ed25519 signature.

`manifest.json` lies beside the files and names all of them, the served code too. The signature is over its bytes and
is kept as a tag, so that a version can be signed after it was registered and whoever can write files alone cannot sign.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST = "manifest.json"
MANIFEST_TAG, SIGNATURE_TAG = "hymunet.manifest_sha256", "hymunet.signature"
KEY, PASSWORD = "HYMUNET_SIGNING_KEY", "HYMUNET_SIGNING_KEY_PASSWORD"  # a PEM file's path, and what opens it
HOW_TO_MAKE_ONE = "openssl genpkey -algorithm ed25519 -out key.pem"


@dataclass(frozen=True)
class Seal:
    """problems: files that are not as the manifest says, each named; None: there is no manifest.

    signer: the public key, base64 of its 32 bytes, whose signature over the manifest holds; empty where none does.
    """

    problems: tuple[str, ...] | None
    signer: str = ""


def manifest(folder: Path) -> bytes:
    """JSON: path -> SHA-256 of every file below the folder but the manifest itself."""
    found = {name: _sha256(folder / name) for name in _names(folder)}
    return (json.dumps(found, indent=1, sort_keys=True) + "\n").encode()


def signing_key() -> "Ed25519PrivateKey | None":
    """The private key that the environment names, or None. ValueError for one that cannot be used."""
    if not (place := os.environ.get(KEY)):
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD)
    try:
        key = load_pem_private_key(Path(place).read_bytes(), password.encode() if password else None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{place}, which {KEY} names: {' '.join(str(error).split())}; make a key with: {HOW_TO_MAKE_ONE}"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{place}, which {KEY} names, is no Ed25519 key; make one with: {HOW_TO_MAKE_ONE}")
    return key


def signature(content: bytes, key: "Ed25519PrivateKey") -> str:
    """The tag's value for a manifest of these bytes."""
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    return json.dumps({"public_key": public, "ed25519": base64.b64encode(key.sign(content)).decode()}, sort_keys=True)


def signer(content: bytes, tag: str | None) -> str:
    """The public key whose signature the tag holds, or nothing where there is none or it does not hold."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        said = json.loads(tag or "")
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(said["public_key"], validate=True))
        key.verify(base64.b64decode(said["ed25519"], validate=True), content)
    except (ValueError, KeyError, TypeError, InvalidSignature):
        return ""
    return str(said["public_key"])


def examined(folder: Path, tags: Mapping[str, str]) -> Seal:
    """folder: all files of a version, with its tags, which hold the manifest's hash and the signature."""
    try:
        content = (folder / MANIFEST).read_bytes()
        listed = json.loads(content)
        said = {str(name): str(digest) for name, digest in listed.items()}
    except FileNotFoundError:
        return Seal(None)
    except (ValueError, AttributeError):
        return Seal((f"{MANIFEST} is damaged",))
    if MANIFEST_TAG in tags and hashlib.sha256(content).hexdigest() != tags[MANIFEST_TAG]:
        return Seal((f"{MANIFEST} was changed",))
    names = set(_names(folder))
    problems = [f"{name} is not there" for name in said.keys() - names]
    problems += [f"{name} was added" for name in names - said.keys()]
    problems += [f"{name} was changed" for name in names & said.keys() if _sha256(folder / name) != said[name]]
    return Seal(tuple(sorted(problems)), signer(content, tags.get(SIGNATURE_TAG)))


def changed_since(content: bytes, tags: Mapping[str, str], files: Mapping[str, Path]) -> list[str]:
    """Names of those among `files` that are not as the manifest says, or the manifest's own; as in
    `require_as_registered`."""
    if hashlib.sha256(content).hexdigest() != tags[MANIFEST_TAG]:
        return [MANIFEST]
    said = json.loads(content)
    return [name for name, path in files.items() if _sha256(path) != said.get(name)]


def require_as_registered(where: str, content: bytes, tags: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """content: of the manifest; files: some of the version's, by their names in it. Raises ValueError, calling the
    version `where`, for those that are not as they were registered."""
    if changed := changed_since(content, tags, files):
        raise ValueError(
            f"{where}: {', '.join(changed)} changed since it was registered; register the model again, or take "
            "another version"
        )


def _names(folder: Path) -> list[str]:
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
