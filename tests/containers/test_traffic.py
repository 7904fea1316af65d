"""What crosses the network, counted where it crosses: real images from a mirror, through the pipeline in containers."""

import json
from collections.abc import Callable, Iterator

import pytest

from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.transfer import file_sha256
from tests.containers.meter import Meter
from tests.containers.stack import STEPS, Stack
from tests.support.servers import S3Server
from tests.support.training_data import isic_folder

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(1800)]
ARCHIVE = "kvasir-seg.zip"


@pytest.fixture(scope="module")
def mirror(s3_server: S3Server) -> Iterator[Meter]:
    """A bucket that everyone may read, over HTTP, with ranges."""
    folder = isic_folder()
    if folder is None or not (folder / ARCHIVE).exists():
        pytest.skip(f"no {ARCHIVE}: name its folder with HYMUNET_ISIC_DIR")
    s3_server.client().upload_file(str(folder / ARCHIVE), s3_server.create_bucket("mirror"), ARCHIVE)
    with Meter(s3_server.endpoint) as meter:
        yield meter


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> Iterator[Meter]:
    with Meter(s3_server.endpoint) as meter:
        yield meter


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack], store: Meter) -> Stack:
    return new_stack("traffic", endpoint=store.uri)


def test_raw_data_cross_the_network_once(stack: Stack, mirror: Meter, store: Meter) -> None:
    """From the mirror once, to the store once, from it once to the one step that reads them; and never again."""
    sums = sums_sha256({ARCHIVE: file_sha256(isic_folder() / ARCHIVE)})
    place = {"data__kvasir_seg__mirror": f"{mirror.uri}/mirror", "data__kvasir_seg__sums": sums}
    changes = {"data__source": "kvasir_seg", "train__epochs": "1", **place}
    raw = (isic_folder() / ARCHIVE).stat().st_size
    code, log = stack.run("real", **changes)
    assert code == 0, log[-4000:]
    assert stack.states("real") == dict.fromkeys(STEPS, "computed")
    # Two bytes more ask what the mirror has, and whether it knows ranges.
    assert mirror.received["GET", f"/mirror/{ARCHIVE}"] == raw + 2
    objects = [path for (verb, path), size in store.sent.items() if verb == "PUT" and raw <= size < raw * 1.01]
    assert len(objects) == 1, "the archive went to the store as one object"
    assert raw <= store.sent["PUT", objects[0]] < raw * 1.01
    assert store.received["GET", objects[0]] == raw
    summary = {"archive": raw, "first": counts(mirror, store)}

    for meter in (mirror, store):
        meter.reset()
    code, log = stack.run("again", **changes)
    assert code == 0, log[-4000:]
    assert mirror.requests == 0
    assert store.received["GET", objects[0]] == store.sent["PUT", objects[0]] == 0
    # What it registers is fetched to see that it is what the registry has; the hashes of everything else suffice.
    records = stack.records("again")
    assert {name for name, record in records.items() if record["pulled_bytes"]} == {"register"}
    print(json.dumps(summary | {"again": counts(mirror, store), "records": stack.records("real")}, indent=1))


def counts(mirror: Meter, store: Meter) -> dict[str, int]:
    return {
        "from the mirror": sum(mirror.received.values()),
        "to the store": sum(store.sent.values()),
        "from the store": sum(store.received.values()),
        "requests to the store": store.requests,
    }
