"""The download step from every kind of mirror, with what each publishes or does not."""

import hashlib
import http.server
import json
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

from hymunet import params
from hymunet.data.acquire import sources
from hymunet.data.acquire.download import download
from hymunet.data.acquire.sources import ArchiveFile, Source
from tests.support.servers import S3Server

ROOT = Path(__file__).resolve().parents[3]
NAMES = tuple(archive.name for archive in sources.SOURCES["isic2018"].archives)


def section(**values) -> params.Data:
    content = params.read_yaml(ROOT / "profiles/paper.yaml")["data"]
    return params.Data.model_validate({**content, **values})


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with two small archives under the official names."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(f"{name.removesuffix('.zip')}/file.txt", f"content {number}" * 1000)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}


def publish(folder: Path, **changes: str) -> None:
    lines = [f"{changes.get(name, digest)}  {name}\n" for name, digest in digests(folder).items()]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def web(mirror: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(mirror)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def arrived(raw: Path, mirror: Path) -> None:
    record = json.loads((raw / "source.json").read_text())
    assert {entry["name"]: entry["sha256"] for entry in record["archives"]} == digests(mirror)
    assert digests(raw) == digests(mirror)
    assert not list(raw.parent.glob(".*partial"))


def test_a_folder_without_sums_is_taken_and_said(mirror, tmp_path, capsys):
    download(section(mirror=str(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)
    assert capsys.readouterr().err.count("recorded, not verified against the official one") == 2


def test_sums_of_the_mirror_are_enforced(mirror, tmp_path, capsys):
    publish(mirror)
    download(section(mirror=str(mirror)), tmp_path / "raw")
    assert "not verified" not in capsys.readouterr().err
    publish(mirror, **{NAMES[1]: "0" * 64})
    with pytest.raises(ValueError, match=rf"{NAMES[1]}.*sha256 \w{{64}}, expected 0{{64}}.*mend it or name another"):
        download(section(mirror=str(mirror)), tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []


def test_a_web_server_without_ranges_serves(mirror, web, tmp_path):
    publish(mirror)
    download(section(mirror=web), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_a_missing_archive_is_named_and_the_other_kept_for_the_next_call(mirror, web, tmp_path):
    content = (mirror / NAMES[1]).read_bytes()
    (mirror / NAMES[1]).unlink()
    with pytest.raises(ValueError, match=rf"{NAMES[1]} could not be fetched: .*HTTP 404"):
        download(section(mirror=web), tmp_path / "raw")
    assert (tmp_path / ".raw.partial" / NAMES[0]).exists()
    assert list((tmp_path / "raw").iterdir()) == []
    (mirror / NAMES[1]).write_bytes(content)
    download(section(mirror=web), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_the_second_official_host_helps_out_and_its_hash_must_hold(mirror, web, tmp_path, monkeypatch):
    archives = tuple(
        ArchiveFile(name, (mirror / name).stat().st_size, digest) for name, digest in digests(mirror).items()
    )
    official = Source(archives, "x", "y", hosts=(f"{web}/nowhere", web))
    monkeypatch.setitem(sources.SOURCES, "isic2018", official)
    download(section(mirror=None), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)
    (mirror / NAMES[0]).write_bytes(b"PK" + (mirror / NAMES[0]).read_bytes()[2:-1] + b"!")
    with pytest.raises(ValueError, match="is not the one published"):
        download(section(mirror=None), tmp_path / "other")


@pytest.mark.integration
@pytest.mark.parametrize("signed", [True, False])
def test_a_bucket_serves_signed_and_unsigned(mirror, tmp_path, s3_server: S3Server, monkeypatch, signed):
    import boto3

    publish(mirror)
    client = boto3.client(
        "s3", endpoint_url=s3_server.endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    bucket = f"mirror-{str(signed).lower()}"
    client.create_bucket(Bucket=bucket, **({} if signed else {"ACL": "public-read"}))
    for path in mirror.iterdir():
        client.upload_file(str(path), bucket, f"isic/2018/{path.name}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test") if signed else monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    download(section(mirror=f"s3://{bucket}/isic/2018"), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_a_mirror_that_is_no_address_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neither an http\(s\) or s3:// address nor an existing folder"):
        download(section(mirror="ftp://nowhere"), tmp_path / "raw")


def test_an_archive_that_is_no_zip_is_refused_though_its_hash_holds(mirror, tmp_path):
    (mirror / NAMES[0]).write_bytes(b"no archive")
    publish(mirror)
    with pytest.raises(ValueError, match="not a readable ZIP archive"):
        download(section(mirror=str(mirror)), tmp_path / "raw")
    assert not (tmp_path / "raw/source.json").exists()


def test_own_sources_are_packed_to_the_same_bytes_every_time(tmp_path):
    drawn = section(source="synthetic", synthetic_images=10, synthetic_size=64)
    for raw in ("one", "two"):
        download(drawn, tmp_path / raw)
    assert (tmp_path / "one/synthetic.zip").read_bytes() == (tmp_path / "two/synthetic.zip").read_bytes()
