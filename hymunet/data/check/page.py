"""The report of the data checks as one page for people: one file, nothing fetched, no script.

The verdict first, then each check with its bound, what was found and pictures of examples, then the distributions.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hymunet import atomic
from hymunet.data.prepare.manifest import open_array, read_manifest

SIDE = 112  # pixels of a thumbnail
WIDTH, HEIGHT = 520, 120  # of a distribution


def write_page(record: Mapping[str, Any], prepared: Path, path: Path) -> None:
    """record: the content of validation.json. prepared: the folder of the images that it speaks of."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    examples = {id for check in record["checks"] if not check["passed"] for id in check["examples"]}
    documents = path.parent.rglob("validations/**/*.html")
    page = environment.get_template("page.html").render(
        record=record,
        failed=[check for check in record["checks"] if not check["passed"]],
        passed=[check for check in record["checks"] if check["passed"]],
        thumbnails=thumbnails(prepared, examples),
        distributions=[_bars(one) for one in record["distributions"]],
        documents=sorted(file.relative_to(path.parent).as_posix() for file in documents),
        side=SIDE,
        width=WIDTH,
        height=HEIGHT,
    )
    atomic.write(path, page)


def thumbnails(prepared: Path, ids: Iterable[str]) -> dict[str, str]:
    """id -> `data:` address of a small JPEG with the mask's outline; an id that was not prepared has none."""
    wanted = set(ids)
    if not wanted or not (prepared / "images.npy").is_file():
        return {}
    images, masks = open_array(prepared / "images.npy"), open_array(prepared / "masks.npy")
    rows = {row["id"]: index for index, row in enumerate(read_manifest(prepared / "manifest.parquet"))}
    return {
        id: _thumbnail(images[rows[id]], masks[rows[id]])
        for id in sorted(wanted)
        if rows.get(id, len(images)) < len(images)
    }


def _thumbnail(image: np.ndarray, mask: np.ndarray) -> str:
    small = np.ascontiguousarray(cv2.resize(image[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    lesion = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
    outlines = cv2.findContours(lesion, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(small, outlines, -1, (0, 255, 255), 1)
    encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _bars(distribution: Mapping[str, Any]) -> dict[str, Any]:
    """Rectangles of a histogram and the places of its bounds, in pixels of the picture."""
    edges, counts = distribution["edges"], distribution["counts"]
    low, span = edges[0], (edges[-1] - edges[0]) or 1
    places = [WIDTH * (edge - low) / span for edge in edges]
    tallest = max(counts, default=0) or 1
    bars = [
        {"x": left, "width": max(right - left - 1, 1), "height": HEIGHT * (count / tallest) ** 0.5, "count": count}
        for left, right, count in zip(places, places[1:], counts, strict=False)
    ]
    bounds = [WIDTH * (bound - low) / span for bound in distribution["bounds"] if edges[0] <= bound <= edges[-1]]
    return {**distribution, "bars": bars, "lines": bounds}
