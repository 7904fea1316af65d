"""A comparison as a page that opens without a network, and as Markdown."""

import html
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from hymunet import atomic
from hymunet.evaluation import record
from hymunet.evaluation.compare import Compared, Side, compare
from hymunet.evaluation.report import names, plots
from hymunet.evaluation.report.page import read_cases, render

PAGE, PICTURES = "comparison.html", "report.html"
SCORED = ("dice", "iou", "hd95", "boundary_iou")  # of each side, in the gallery
SHARED = ("mask_area", "contrast", "hair", "megapixels", "components")


def write(first: Path, second: Path, output: Path, columns: Path | None = None) -> dict[str, Any]:
    """Compares two evaluations' folders; writes `comparison.html`, `.md` and `.json`; returns what the JSON holds.

    The pictures are those of each evaluation's report.html, where it is there.
    """
    found = compare(first, second, columns)
    shown, text = page(found), markdown(found)
    atomic.write(output / "comparison.html", shown)
    atomic.write(output / "comparison.md", text)
    atomic.write(output / "comparison.json", record.to_json(found.result))
    return found.result


def page(found: Compared) -> str:
    result, sides = found.result, found.sides
    return render(
        PAGE,
        result=result,
        first=sides[0].name,
        second=sides[1].name,
        together=names.TOGETHER[result["grouped_by"]],
        apart="" if result["grouped_alike"] else names.APART,
        verdict=result["verdict"],
        alarms=false_alarms(result),
        main=_main(result),
        tables=_tables(result),
        low_is_good=names.LOW_IS_GOOD,
        flips=found.members["flipped"],
        differing=[entry for entry in result["slices"] if entry["differs"]],
        scatter=_scatter(found),
        scale=_scale(result),
        models=[side.name for side in sides],
        cases=_embedded(found),
    )


def markdown(found: Compared) -> str:
    """The figures alone, for a pull request or a notebook."""
    result, (a, b) = found.result, found.sides
    lines = [f"# {_cell(b.name)} against {_cell(a.name)}", "", _cell(result["verdict"]), ""]
    lines += [_cell(alarms), ""] if (alarms := false_alarms(result)) else []
    lines += [] if result["grouped_alike"] else [names.APART, ""]
    for title, table in _tables(result):
        lines += [
            f"## {title}",
            "",
            f"| score | {_cell(a.name)} | {_cell(b.name)} | difference (95 %) | better on | d |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for name, entry in table.items():
            places, one = names.digits(name), entry["difference"]
            mean, low, high = (f"{one[key]:+.{places}f}" for key in ("mean", "low", "high"))
            effect = "" if entry["effect"] is None else f"{entry['effect']:+.2f}"
            lines.append(
                f"| {names.SCORES[name]} | {entry['first']:.{places}f} | {entry['second']:.{places}f} | "
                f"{mean} ({low} to {high}) | {entry['second_better']:.0%} | {effect} |"
            )
        lines.append("")
    for side, key in ((a, "failed_in_first"), (b, "failed_in_second")):
        flips = result["flips"][key]
        lines += [f"## Failed in {_cell(side.name)} alone: {len(flips)}", ""]
        lines += [f"- {_cell(one['id'])}: IoU {one['first_iou']:.3f} → {one['second_iou']:.3f}" for one in flips]
        lines += [""] * bool(flips)
    lines += ["## Slices", "", "| slice | | images | difference of Dice (95 %) | |", "|---|---|---|---|---|"]
    for entry in result["slices"]:
        mean, low, high = (f"{entry['difference'][key]:+.4f}" for key in ("mean", "low", "high"))
        remark = "differs" if entry["differs"] else "few" if entry["small"] else ""
        lines.append(
            f"| {_cell(entry['slice'])} | {_cell(entry['value'])} | {entry['images']} | {mean} ({low} to {high}) "
            f"| {remark} |"
        )
    return "\n".join([*lines, "", "For research use only; not a medical device.", ""])


def false_alarms(result: dict[str, Any]) -> str:
    """Of both sides, in a sentence; nothing where every image shows a lesion."""
    sides = [side for side in (result["first"], result["second"]) if side["without_lesion"]]
    said = (f"{side['name']} {side['false_alarms']} of {side['without_lesion']}" for side in sides)
    return f"False alarms in images without a lesion: {', '.join(said)}." if sides else ""


def _main(result: dict[str, Any]) -> dict[str, Any]:
    return result["native" if result["compared_at"] == "native" else "scores"]


def _tables(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    titles = {"scores": "On the model's grid", "native": "At the images' own size"}
    return [(title, result[key]) for key, title in titles.items() if key in result]


def _scale(result: dict[str, Any]) -> tuple[float, float]:
    """The range that the slices' differences are drawn on; 0 is in it."""
    reach = max([abs(entry["difference"][end]) for entry in result["slices"] for end in ("low", "high")], default=0)
    return -max(reach, 0.01), max(reach, 0.01)


def _scatter(found: Compared) -> Markup:
    """Dice of the one against the other; a dot opens its case."""
    column = f"{found.basis}dice"
    a, b = found.sides
    axes = plots.Axes((0, 1), (0, 1), (f"Dice of {escape(a.name)}", f"Dice of {escape(b.name)}"))
    axes.line([(0, 0), (1, 1)], "ideal")
    for place, (one, other) in enumerate(zip(a.rows, b.rows, strict=True)):
        axes.case(one[column], other[column], place, f"{one['id']}: {one[column]:.3f}, {other[column]:.3f}")
    return axes.svg(f"Dice of each image: {escape(a.name)} across, {escape(b.name)} upwards")


def _embedded(found: Compared) -> Markup:
    """All that the gallery shows, as JSON that may stand inside a script element."""
    sides, basis = found.sides, found.basis
    columns = [["difference", f"Dice, {sides[1].name} less {sides[0].name}", 4]]
    for name in (*SCORED, "confidence"):
        text = {**names.SCORES, **names.OTHERS}[name]
        columns += [[f"{name}{place}", f"{text}, {side.name}", names.digits(name)] for place, side in enumerate(sides)]
    columns += [[name, names.OTHERS[name], names.digits(name)] for name in SHARED]
    values = []
    for pair in zip(*(side.rows for side in sides), strict=True):
        row = [pair[1][f"{basis}dice"] - pair[0][f"{basis}dice"]]
        row += [one[f"{basis}{name}"] for name in SCORED for one in pair] + [one["confidence"] for one in pair]
        values.append([None if value is None else round(value, 6) for value in (*row, *(pair[0][n] for n in SHARED))])
    content = {
        "columns": columns,
        "ids": [row["id"] for row in sides[0].rows],
        "values": values,
        "pictures": _pictures(sides),
        "slices": {name: part for name, part in found.members.items() if part},
        "models": [side.name for side in sides],
        "order": "difference",
        "failing": ["iou0", "iou1"],
    }
    return Markup(json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def _pictures(sides: tuple[Side, Side]) -> list[list[str] | None]:
    """Image, probability, truth and prediction of the first side, prediction and probability of the second."""
    shown = [_shown(side) for side in sides]
    result: list[list[str] | None] = []
    for row in sides[0].rows:
        a, b = (one.get(row["id"]) for one in shown)
        one = a or b
        # Without the report of one side its contour is not drawn.
        result.append(
            [one[0], a[1] if a else one[0], one[2], a[3] if a else "", b[3] if b else "", b[1] if b else one[0]]
            if one
            else None
        )
    return result


def _shown(side: Side) -> dict[str, list[str]]:
    """Pictures by id, from the evaluation's own page; none where it was not kept."""
    path = side.folder / PICTURES
    if not path.is_file():
        return {}
    content = read_cases(path)
    place = [name for name, *_ in content["columns"]].index("dice")
    dice = {row["id"]: row["dice"] for row in side.rows}
    of_page = {id: values[place] for id, values in zip(content["ids"], content["values"], strict=True)}
    if of_page.keys() != dice.keys() or any(abs(of_page[id] - dice[id]) > 2e-6 for id in dice):
        raise ValueError(f"{path}: of another evaluation than the figures beside it; evaluate again, or remove it")
    return {id: picture for id, picture in zip(content["ids"], content["pictures"], strict=True) if picture}


def _cell(text: str) -> str:
    """As a cell of a Markdown table, and no markup of HTML, which readers of Markdown pass on."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
