"""The download step from every kind of mirror, with what each publishes or does not."""

import hashlib
import http.server
import json
import multiprocessing
import threading
import zipfile
from functools import partial
from pathlib import Path

import pytest

from hymunet import params
from hymunet.data.acquire import remote as remotes
from hymunet.data.acquire import sources
from hymunet.data.acquire.download import download
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.source import ArchiveFile, Source
from tests.support.servers import S3Server

ROOT = Path(__file__).resolve().parents[3]
NAMES = tuple(archive.name for archive in sources.SOURCES["isic2018"].archives)


def section(source: str = "isic2018", **values) -> params.Data:
    """The data section with this source, and these keys of the source's own section."""
    content = params.read_yaml(ROOT / "profiles/paper.yaml")["data"]
    content[source] |= values
    return params.Data.model_validate({**content, "source": source})


def sums(folder: Path) -> str:
    return sums_sha256(digests(folder))


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


def test_archives_that_are_not_the_published_ones_are_taken_by_their_hash_alone(mirror, tmp_path):
    with pytest.raises(
        ValueError, match=rf"other archives than the published ones .*data.isic2018.sums to {sums(mirror)}"
    ):
        download(section(mirror=str(mirror)), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []
    download(section(mirror=str(mirror), sums=sums(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)
    assert hashlib.sha256((tmp_path / "raw/SHA256SUMS").read_bytes()).hexdigest() == sums(mirror)


@pytest.mark.parametrize("listed", [True, False], ids=["with SHA256SUMS", "without"])
def test_another_archive_at_the_same_mirror_never_passes(mirror, tmp_path, listed):
    pinned = sums(mirror)
    download(section(mirror=str(mirror), sums=pinned), tmp_path / "raw")
    with zipfile.ZipFile(mirror / NAMES[0], "a") as archive:
        archive.writestr("another.txt", "one more")
    if listed:
        publish(mirror)
    download(section(mirror=str(mirror), sums=pinned), tmp_path / "raw")  # the old ones are kept, and are asked for
    with pytest.raises(ValueError, match=rf"than those that data.isic2018.sums names; .*sums to {sums(mirror)}"):
        download(section(mirror=str(mirror), sums=pinned), tmp_path / "elsewhere/raw")
    download(section(mirror=str(mirror), sums=sums(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_a_mirror_of_the_published_archives_needs_no_more_than_its_address(mirror, tmp_path, monkeypatch):
    archives = tuple(
        ArchiveFile(name, (mirror / name).stat().st_size, digest) for name, digest in digests(mirror).items()
    )
    monkeypatch.setitem(sources.SOURCES, "isic2018", Source(archives, "x", "y"))
    download(section(mirror=str(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_what_was_fetched_lies_once_and_is_there_again_without_the_mirror(mirror, tmp_path):
    """The step's output may be emptied, as DVC does before each run: nothing is fetched again or lies twice."""
    pinned = section(mirror=str(mirror), sums=sums(mirror))
    download(pinned, tmp_path / "raw")
    for path in [*(tmp_path / "raw").iterdir()]:
        path.unlink()
    mirror_was = digests(mirror)
    for name in NAMES:
        (mirror / name).unlink()
    download(pinned, tmp_path / "raw")
    assert digests(tmp_path / "raw") == mirror_was
    for name in NAMES:
        assert (tmp_path / "raw" / name).samefile(tmp_path / "archives" / name)


def test_sums_of_the_mirror_are_enforced(mirror, tmp_path):
    pinned = sums(mirror)
    publish(mirror, **{NAMES[1]: "0" * 64})
    with pytest.raises(ValueError, match=rf"{NAMES[1]}.*sha256 \w{{64}}, expected 0{{64}}.*mend the file"):
        download(section(mirror=str(mirror), sums=pinned), tmp_path / "again")
    assert list((tmp_path / "again").iterdir()) == []


def _download(data: params.Data, folder: Path) -> None:
    download(data, folder)


@pytest.mark.parametrize("source", ["isic2018", "synthetic"])
def test_two_downloads_into_one_folder_both_end_well(mirror, tmp_path, source):
    """One works and the other waits, and finds everything there."""
    own = {"images": 20, "size": 64} if source == "synthetic" else {"mirror": str(mirror), "sums": sums(mirror)}
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_download, args=(section(source, **own), tmp_path / "raw")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    names = NAMES if source == "isic2018" else ("synthetic.zip",)
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted([*names, "SHA256SUMS", "source.json"])


def test_a_web_server_without_ranges_serves(mirror, web, tmp_path):
    publish(mirror)
    download(section(mirror=web, sums=sums(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


def test_a_missing_archive_is_named_and_the_other_kept_for_the_next_call(mirror, web, tmp_path):
    pinned, content = section(mirror=web, sums=sums(mirror)), (mirror / NAMES[1]).read_bytes()
    (mirror / NAMES[1]).unlink()
    with pytest.raises(ValueError, match=rf"{NAMES[1]} could not be fetched: .*HTTP 404"):
        download(pinned, tmp_path / "raw")
    first = (tmp_path / "archives" / NAMES[0]).stat()
    assert list((tmp_path / "raw").iterdir()) == []
    (mirror / NAMES[1]).write_bytes(content)
    download(pinned, tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)
    assert (tmp_path / "raw" / NAMES[0]).stat().st_ino == first.st_ino, "not fetched a second time"


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
        download(section(mirror=None), tmp_path / "elsewhere/raw")


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
    download(section(mirror=f"s3://{bucket}/isic/2018", sums=sums(mirror)), tmp_path / "raw")
    arrived(tmp_path / "raw", mirror)


@pytest.mark.parametrize("scheme", ["http", "https", "s3", "ftp"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(scheme):
    """Parameters with secrets are refused as they are read; a caller of the library may still pass one."""
    with pytest.raises(ValueError, match=r"holds a user, a password or a query.*\.netrc") as error:
        remotes.remote(f"{scheme}://alice:s3cret" + "@host/isic")
    assert "s3cret" not in str(error.value)


def test_a_mirror_that_is_no_address_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neither an http\(s\) or s3:// address nor an existing folder"):
        download(section(mirror="ftp://nowhere"), tmp_path / "raw")


def test_an_archive_that_is_no_zip_is_refused_though_its_hash_holds(mirror, tmp_path):
    (mirror / NAMES[0]).write_bytes(b"no archive")
    publish(mirror)
    with pytest.raises(ValueError, match="not a readable ZIP archive"):
        download(section(mirror=str(mirror), sums=sums(mirror)), tmp_path / "raw")
    assert not (tmp_path / "raw/source.json").exists()


def test_own_sources_are_packed_to_the_same_bytes_every_time(tmp_path):
    drawn = section("synthetic", images=10, size=64)
    for raw in ("one", "two"):
        download(drawn, tmp_path / raw)
    assert (tmp_path / "one/synthetic.zip").read_bytes() == (tmp_path / "two/synthetic.zip").read_bytes()
