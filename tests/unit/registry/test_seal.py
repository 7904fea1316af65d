"""The manifest of a version's files and its signature: whatever changes is named, and nobody else can sign."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from hymunet.registry import seal

PEM = (Encoding.PEM, PrivateFormat.PKCS8)


@pytest.fixture
def key():
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def version(tmp_path, key):
    """A folder of a version, and its tags."""
    for name, content in {"code/hymunet/a.py": b"code", "artifacts/model/model.safetensors": b"weights"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    content = seal.manifest(tmp_path)
    (tmp_path / seal.MANIFEST).write_bytes(content)
    digest = seal.hashlib.sha256(content).hexdigest()
    return tmp_path, {seal.MANIFEST_TAG: digest, seal.SIGNATURE_TAG: seal.signature(content, key)}


def public(key):
    return seal.base64.b64encode(key.public_key().public_bytes_raw()).decode()


def test_what_is_whole_says_who_signed_it(version, key):
    assert seal.examined(*version) == seal.Seal((), public(key))
    folder, tags = version
    assert seal.examined(folder, {seal.MANIFEST_TAG: tags[seal.MANIFEST_TAG]}) == seal.Seal(()), "unsigned"


def edited(folder):
    (folder / "code/hymunet/a.py").write_bytes(b"codE")


def removed(folder):
    (folder / "artifacts/model/model.safetensors").unlink()


def added(folder):
    (folder / "code/hymunet/b.py").write_bytes(b"more")


def listed_anew(folder):
    edited(folder)
    (folder / seal.MANIFEST).write_bytes(seal.manifest(folder))


@pytest.mark.parametrize(
    ("happens", "named"),
    [
        (edited, "code/hymunet/a.py was changed"),
        (removed, "artifacts/model/model.safetensors is not there"),
        (added, "code/hymunet/b.py was added"),
        (listed_anew, "manifest.json was changed"),
    ],
)
def test_whatever_changes_is_named(version, happens, named):
    happens(version[0])
    assert seal.examined(*version).problems == (named,)


def test_who_can_write_files_and_tags_still_cannot_sign(version):
    folder, tags = version
    listed_anew(folder)
    digest = seal.hashlib.sha256((folder / seal.MANIFEST).read_bytes()).hexdigest()
    assert seal.examined(folder, tags | {seal.MANIFEST_TAG: digest}) == seal.Seal((), "")


@pytest.mark.parametrize("tag", [None, "", "no JSON", "[]", "{}", '{"public_key": "AA==", "ed25519": "AA=="}'])
def test_what_is_no_signature_signs_nothing(version, tag):
    content = (version[0] / seal.MANIFEST).read_bytes()
    assert seal.signer(content, tag) == ""


def test_another_s_key_under_a_known_name_signs_nothing(version, key):
    content = (version[0] / seal.MANIFEST).read_bytes()
    forged = json.loads(seal.signature(content, Ed25519PrivateKey.generate())) | {"public_key": public(key)}
    assert seal.signer(content, json.dumps(forged)) == ""


def test_the_key_comes_from_the_environment(tmp_path, monkeypatch, key):
    monkeypatch.delenv(seal.KEY, raising=False)
    assert seal.signing_key() is None
    file = tmp_path / "key.pem"
    monkeypatch.setenv(seal.KEY, str(file))
    with pytest.raises(ValueError, match=r"key\.pem, which HYMUNET_SIGNING_KEY names.*openssl genpkey"):
        seal.signing_key()
    file.write_bytes(key.private_bytes(*PEM, NoEncryption()))
    assert public(seal.signing_key()) == public(key)
    file.write_bytes(key.private_bytes(*PEM, BestAvailableEncryption(b"word")))
    with pytest.raises(ValueError, match="HYMUNET_SIGNING_KEY"):
        seal.signing_key()
    monkeypatch.setenv(seal.PASSWORD, "word")
    assert public(seal.signing_key()) == public(key)
    file.write_bytes(generate_private_key(SECP256R1()).private_bytes(*PEM, NoEncryption()))
    monkeypatch.delenv(seal.PASSWORD)
    with pytest.raises(ValueError, match="is no Ed25519 key"):
        seal.signing_key()
