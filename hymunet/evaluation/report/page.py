"""The evaluation as one page that opens without a network: headline, plots, slices, and every case to look through."""

import base64
import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hymunet.evaluation import confidence
from hymunet.evaluation.record import false_alarms, one_group
from hymunet.evaluation.report import names, plots
from hymunet.evaluation.slices import Members
from hymunet.evaluation.thumbnails import Thumbnail

HERE = Path(__file__).parent
FRAME, PAGE, GALLERY, STYLE, SCRIPT = "frame.html", "page.html", "gallery.html", "style.css", "script.js"
SIDES = {300: 256, 1500: 192, 5000: 128}  # up to how many cases: pixels of a picture
CASES = '<script type="application/json" id="cases">'


def picture_side(count: int) -> int:
    """Pixels per side of the cases' pictures, so that the page stays a few megabytes."""
    return next((side for most, side in SIDES.items() if count <= most), 96)


def page(
    result: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    pictures: Sequence[Thumbnail | None],
    members: Members,
    *,
    info: dict[str, Any],
    parameters: int,
    dataset: dict[str, Any],
    curves: bytes | None,
) -> str:
    """result: metrics.json; rows: per_image.csv; members: slices by positions of rows; info: model.json; parameters: of
    the model; dataset: prepare.json, or what is known of the images; curves: a PNG of the training."""
    test, model = result["test"], info["model"]
    return render(
        PAGE,
        title=f"{model['name']} {model.get('size', '')}".strip(),
        result=result,
        test=test,
        together=names.TOGETHER[result["grouped_by"]],
        models=None,
        native=result["native"],
        facts=_facts(result, info, parameters, dataset),
        false_alarms=false_alarms(test),
        one_group=one_group(result),
        medians={name: float(np.median([row[name] for row in rows])) for name in names.SCORES},
        histogram=plots.histogram([row["dice"] for row in rows]),
        reliability=plots.reliability(result["calibration"]["whole"], result["calibration"]["band"]),
        risk_coverage=plots.risk_coverage(result["confidence"]),
        sentence=confidence.sentence(result["confidence"], test["dice"]["mean"]),
        scale=_scale(result),
        curves=base64.b64encode(curves).decode() if curves else None,
        cases=embedded(rows, pictures, members),
        suspicious=confidence.suspicious(rows),
        place={row["id"]: index for index, row in enumerate(rows)},
    )


def render(template: str, **values: Any) -> str:
    """A page of this folder, with style and script inside it."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    parts = {"style": Markup((HERE / STYLE).read_text("utf-8")), "script": Markup((HERE / SCRIPT).read_text("utf-8"))}
    return environment.get_template(template).render(
        **parts,
        frame=FRAME,
        gallery=GALLERY,
        scores=names.SCORES,
        digits=names.digits,
        interval=plots.interval,
        **values,
    )


def embedded(rows: Sequence[dict[str, Any]], pictures: Sequence[Thumbnail | None], members: Members) -> Markup:
    """All that the gallery shows, as JSON that may stand inside a script element."""
    columns = {**names.SCORES, **names.OTHERS}
    native = {f"native_{name}": f"{text}, native size" for name, text in names.SCORES.items()}
    if rows[0]["native_dice"] is not None:
        columns |= native
    content = {
        "columns": [[name, text, names.digits(name.removeprefix("native_"))] for name, text in columns.items()],
        "ids": [row["id"] for row in rows],
        "values": [[_short(row[name]) for name in columns] for row in rows],
        "pictures": [list(astuple(picture)) if picture else None for picture in pictures],
        "slices": members,
    }
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def read_cases(path: Path) -> dict[str, Any]:
    """What `embedded` put into the page at `path`; ValueError for another page."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; evaluate the model again") from None
    _, found, rest = text.partition(CASES)
    if not found:
        raise ValueError(f"{path}: no report of this version; evaluate the model again")
    return json.loads(rest.partition("</script>")[0])


def _short(value: Any) -> Any:
    return round(float(value), 6) if value is not None else None


def _scale(result: dict[str, Any]) -> tuple[float, float]:
    """The range that the slices' intervals are drawn on."""
    ends = [entry["dice"][end] for entry in result["slices"] for end in ("low", "high")] + [
        result["test"]["dice"]["mean"]
    ]
    low, high = min(ends), max(ends)
    return (low, high) if high - low > 1e-6 else (low - 0.01, high + 0.01)


def _facts(result: dict[str, Any], info: dict[str, Any], parameters: int, dataset: dict[str, Any]) -> dict[str, str]:
    size = result["image_size"]
    images = f"{dataset['images']:,} images" if "images" in dataset else "images"
    facts = {
        "Data": f"{dataset.get('source', result['source'])}, {images}; the model sees them at {size}×{size}",
        "Model": f"{parameters:,} parameters"
        + (f", epoch {info['epoch']}" if "epoch" in info else "")
        + (f", validation Dice {info['validation_dice']:.4f}" if "validation_dice" in info else ""),
        "Decides": f"lesion where the probability exceeds {result['threshold']:g}"
        + (", averaged over flips" if result["flips"] else "")
        + (", the largest region alone" if result.get("largest_region") else "")
        + f"; temperature {result['temperature']:g}",
        "Weights": result["weights_sha256"],
        "Test images": result["test_images_sha256"],
    }
    if dataset.get("note"):
        facts["Note"] = dataset["note"]
    return facts
