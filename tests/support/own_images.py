"""A few images of one's own as files, and `hymunet evaluate` on them."""

import csv
import json

import cv2

from hymunet import cli
from hymunet.data.acquire.synthetic import draw

COUNT = 6
FOLDERS = ("--images", "images", "--masks", "masks")


def write_images(folder):
    """Six images of several sizes and kinds, with masks of 0 and 1, of 0 and 255, and of one bit."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for index in range(COUNT):
        image, mask = draw(100 + index, 64, 7)
        size = (64 + 9 * index, 80 - 5 * index)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask // 255, size, interpolation=cv2.INTER_NEAREST)
        kind, one = ("png", "jpg")[index % 2], (1, 255, 255)[index % 3]
        cv2.imwrite(f"{folder}/images/photo{index}.{kind}", image[..., ::-1])
        options = [cv2.IMWRITE_PNG_BILEVEL, 1] if index % 3 == 2 else []
        cv2.imwrite(f"{folder}/masks/photo{index}{('', '_mask', '_Segmentation')[index % 3]}.png", mask * one, options)


def rows_of(folder):
    with (folder / "per_image.csv").open() as file:
        return list(csv.DictReader(file))


def record_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def command(model, *options):
    return cli.main(["evaluate", "--model", str(model), *map(str, options), "--output", "out"])
