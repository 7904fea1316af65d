"""Mirrors that cannot be right: said at once, by name, and never as something that another try would mend."""

import zipfile
from pathlib import Path

import pytest

from hymunet.data.acquire.published import obtain
from hymunet.data.acquire.remote import remote
from hymunet.data.acquire.sections import Published
from hymunet.data.acquire.source import ArchiveFile, Source

NAME = "images.zip"
SOURCE = Source((ArchiveFile(NAME, 10, "0" * 64),))


def archive(path: Path, member: str = "images/1.jpg") -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, b"content" * 100)
    return path.read_bytes()


@pytest.mark.parametrize(
    "address",
    [
        *("http://", "https:///isic", "http://host:99999/isic", "http://host:port/isic", "http://a host/isic"),
        *("s3://", "s3:///prefix", "s3://a bucket/prefix"),
    ],
)
def test_an_address_without_a_server_or_a_bucket_is_not_tried(address):
    with pytest.raises(ValueError, match="no address of a server or a bucket; correct the mirror"):
        remote(address)


def test_a_bucket_s_name_that_cannot_be_is_not_tried():
    with pytest.raises(ValueError, match=r"s3://b\*cket/isic: .*[Ii]nvalid bucket name.*correct the mirror"):
        remote("s3://b*cket/isic").info(NAME)


@pytest.mark.parametrize(("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ENDPOINT_URL", "127.0.0.1:9000")])
def test_settings_of_aws_that_cannot_be_are_one_line(monkeypatch, name, value):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"s3://bucket/isic: .*{value}.*correct the settings of AWS"):
        remote("s3://bucket/isic")


@pytest.mark.parametrize("kind", ["cut short", "a page", "empty", "a member that climbs"])
def test_the_hash_of_what_no_hash_would_make_an_archive_is_not_offered(tmp_path, kind):
    mirror, path = tmp_path / "mirror", tmp_path / "mirror" / NAME
    mirror.mkdir()
    whole = archive(path, "../1.jpg" if kind == "a member that climbs" else "images/1.jpg")
    path.write_bytes({"cut short": whole[:-30], "a page": b"<html>log in</html>", "empty": b""}.get(kind, whole))
    with pytest.raises(ValueError, match=rf"{NAME}: .*{mirror} has it so: mend it there, or name another") as error:
        obtain("set", SOURCE, Published(mirror=str(mirror), sums=None), tmp_path / "store", tmp_path)
    assert "sums" not in str(error.value)
    archive(path)
    with pytest.raises(ValueError, match="to take them as they are, set data.set.sums"):
        obtain("set", SOURCE, Published(mirror=str(mirror), sums=None), tmp_path / "store", tmp_path)
