"""Images of another folder that look like what the champion was trained with."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.manifest import perceptual_hash
from hymunet.registry import evidence, gates
from hymunet.registry.evidence import Image
from tests.support.scored_versions import POLICY, TAGS, sha256, write_version

SAME = "same test images"
BASE = np.random.default_rng(0).uniform(0.7, 0.95, 120)


@pytest.fixture
def champion(tmp_path):
    write_version(tmp_path / "champion", BASE, weights=b"the champion's")
    return evidence.read("1", TAGS, tmp_path / "champion")


def encoded(pixels):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)


COPIES = {  # what another folder may hold of a test image, under another name and with another hash
    "encoded again": encoded,
    "half the size": lambda pixels: cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "brighter": lambda pixels: cv2.convertScaleAbs(pixels, alpha=1.1, beta=10),
    "tinted": lambda pixels: np.clip(pixels * [1.1, 1.0, 0.9], 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("copy", COPIES)
def test_images_that_look_like_what_the_champion_was_trained_with_do_not_count(champion, tmp_path, copy):
    """A leak that no hash of files shows: the champion's training images are from another folder."""
    write_version(tmp_path, BASE + 0.02)
    challenger = evidence.read("2", TAGS, tmp_path)
    drawn = [draw(number, 96, 0)[0] for number in range(120)]
    images = {
        id: replace(image, likeness=hashed(drawn[int(id[1:])])) if image.part == "test" else image
        for id, image in challenger.images.items()
    }
    challenger = replace(challenger, images=images)

    def trained_on(pixels):
        foreign = {f"x{n}": Image("x", "train", sha256(one.tobytes()), hashed(one)) for n, one in enumerate(pixels)}
        return replace(champion, images=foreign, rescored=True)

    def figure(version):
        verdict = gates.judge(challenger, version, POLICY, 0)
        return next(gate.figure for gate in verdict.gates if gate.name == SAME)

    others = [draw(number, 96, 0)[0] for number in range(500, 530)]
    assert figure(trained_on(others)) == "120 images at their own size, the champion scored again"
    assert figure(trained_on([*others, *(COPIES[copy](one) for one in drawn[:30])])) == (
        "90 images at their own size (30 more left out: the champion was trained with them or with images that look "
        "like them), the champion scored again"
    )
    own = {id: replace(image, likeness="") for id, image in images.items()}
    unknown = replace(challenger, images=own)
    refused = gates.judge(unknown, trained_on(others), POLICY, 0).failed
    assert [gate.name for gate in refused] == [SAME]
    assert "version 2 has no perceptual hashes of its images; register it again" in refused[0].why


def hashed(pixels):
    return f"{perceptual_hash(np.ascontiguousarray(pixels)):016x}"
