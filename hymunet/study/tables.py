"""The numbers of a study's tables: a row a model, what its publication says, and what a difference is worth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hymunet.evaluation.statistics import Comparison, Interval, Ranking, compare, crossed_interval, rank, seed_interval
from hymunet.study.plan import Plan
from hymunet.study.scores import HEADLINE, SCORES, Scored

SEED = 0  # of the resamples behind the ranks
NOTHING = "–"


@dataclass(frozen=True)
class Grid:
    """A table as text and as numbers. columns: labels, each with the group that it stands under, or an empty one where
    it is of the first things to read. rows: one text a column. data: the same for machines, column by name. notes: the
    first says what the figures are."""

    title: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    data: Sequence[dict[str, Any]]
    notes: Sequence[str]


def scores(plan: Plan, scored: Scored, table: str) -> Grid:
    """The table's models that are there with every score, what they cost, and the publication's own figures."""
    study, definition, asked = plan.study, plan.study.tables[table], rows_of(plan, table, scored.images)
    models = [model for model in asked if model in scored.models]
    beside = study.sets[scored.images].published
    theirs = [name for name in SCORES if beside and any(name in study.models[model].published for model in models)]
    columns = [("", "model"), ("", "seeds"), *((score.group, score.label) for score in SCORES.values())]
    columns += [
        ("", "parameters, M"),
        ("cost", "GMACs"),
        ("images a second", "trained"),
        ("images a second", "inferred, 1 / 24"),
    ]
    if metered := any(_watt_hours(scored.models[model].records) is not None for model in models):
        columns.append(("energy", "Wh a training"))
    columns += [("the publication's own", SCORES[name].label.replace(" px", " as printed")) for name in theirs]
    rows, data = [], []
    for model in models:
        row, numbers = _model(plan, scored, model)
        if metered:
            used = _watt_hours(scored.models[model].records)
            row.append(NOTHING if used is None else f"{used:.0f}")
            numbers["watt_hours"] = used
        published = study.models[model].published
        rows.append([*row, *(f"{published[name]:.2f}" if name in published else NOTHING for name in theirs)])
        data.append({**numbers, **{f"published_{name}": published.get(name) for name in theirs}})
    title = f"{definition.title}. {study.sets[scored.images].title}"
    energy = ["Wh: of the whole card by its own meter, in trainings that had it for themselves."] * metered
    own = [note for model in models if (note := study.models[model].note)]
    meaning, *notes = [*_meaning(plan, scored, models), *energy, *own, *definition.notes]
    if theirs:
        notes.append("The publication's own figures are of its images, split and sizes: beside ours, not against them.")
    if beside:
        notes += definition.published_notes
    if absent := [study.models[model].title for model in asked if model not in scored.models]:
        meaning += f" Not computed yet: {'; '.join(absent)}."
    return Grid(title, columns, rows, data, [meaning, *notes])


def rows_of(plan: Plan, table: str, images: str) -> list[str]:
    """Its models of which the set has cells."""
    asked = {cell.model for cell in plan.cells if cell.images == images}
    return [model for model in plan.study.tables[table].models if model in asked]


def _model(plan: Plan, scored: Scored, model: str) -> tuple[list[str], dict[str, Any]]:
    runs = scored.models[model]
    wanted = len({cell.seed for cell in plan.cells if (cell.images, cell.model) == (scored.images, model)})
    seeds = str(wanted) if len(runs.seeds) == wanted else f"{len(runs.seeds)} of {wanted}"
    row = [plan.study.models[model].title, seeds]
    numbers: dict[str, Any] = {"model": model, "seeds": len(runs.seeds)}
    for name, score in SCORES.items():
        found = crossed_interval(runs.values[name], scored.groups)
        found = _possible(found, 0.0, score.most)
        row.append(shown(found, score.factor, score.digits))
        numbers |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        if len(runs.seeds) > 1:
            numbers[f"{name}_seeds_sd"] = float(runs.values[name].mean(1).std(ddof=1))
    record = runs.records[0]
    rates = {"trained": _median(runs.records, "trained")}
    rates |= {
        size: _median([one["images_per_second"] for one in runs.records], size, "inferred") for size in ("1", "24")
    }
    row += [f"{record['parameters'] / 1e6:.2f}", f"{record['gmacs']:.2f}", f"{rates['trained']:.0f}"]
    row.append(f"{rates['1']:.0f} / {rates['24']:.0f}")
    numbers |= {"parameters": record["parameters"], "gmacs": record["gmacs"]}
    numbers |= {f"images_per_second_{key}": value for key, value in rates.items()}
    return row, numbers


def _possible(interval: Interval, least: float, most: float) -> Interval:
    """Cut at what the score can be: t knows no bounds."""
    return replace(interval, low=max(interval.low, least), high=min(interval.high, most))


def _watt_hours(records: Sequence[dict[str, Any]]) -> float | None:
    """Of a training that had its card for itself; None where no meter was read."""
    alone = [record.get("training_joules") for record in records if record.get("cells_on_the_device", 1) == 1]
    known = [joules / 3600 for joules in alone if joules is not None]
    return float(np.median(known)) if known else None


def _median(records: Sequence[dict[str, Any]], key: str, place: str = "images_per_second") -> float:
    return float(np.median([record[place][key] for record in records]))


def _meaning(plan: Plan, scored: Scored, models: Sequence[str]) -> list[str]:
    """What the figures are, in whole sentences."""
    several = len(scored.ids) - len(set(scored.groups))
    size = scored.image_size
    notes = [
        f"Means over {len(scored.ids)} {plan.study.scored} images at {size}×{size} and all seeds, with 95 % intervals "
        "over images and seeds; with one seed, over images alone.",
        "Trained: images a second of whole trainings, with start and validation. Inferred: float32, batches of 1 / 24.",
        "GMACs: convolutions and matrix products of one image, without scans and resizing.",
    ]
    if plan.study.scored == "validation":
        notes.append("The checkpoints were chosen on the same images; the test images were left alone.")
    if several:
        notes.append("Images of one group, near-duplicates or of one patient, are drawn together.")
    present = [scored.models[model] for model in models]
    machines = sorted({record["machine"] for runs in present for record in runs.records})
    if (
        most := max((record.get("cells_on_the_device", 1) for runs in present for record in runs.records), default=1)
    ) > 1:
        notes.append(
            f"Up to {most} cells shared a card, so that their rates are not the card's: compare no speeds here."
        )
    commits = sorted({record["commit"][:12] for runs in present for record in runs.records})
    if machines:
        notes.append(f"Computed on {', '.join(machines)}; commits {', '.join(commits)}.")
    return notes


def comparisons(plan: Plan, scored: Scored) -> tuple[list[Comparison], Ranking | None]:
    """The reference against every other model that is there, and the ranks of all; by the headline score."""
    reference = scored.models.get(plan.study.reference)
    others = {name: runs.values[HEADLINE] for name, runs in scored.models.items() if name != plan.study.reference}
    found = compare(reference.values[HEADLINE], others, scored.groups) if reference and others else []
    most = SCORES[HEADLINE].most
    found = [replace(one, difference=_possible(one.difference, -most, most)) for one in found]
    if len(scored.models) < 2:
        return found, None
    values = [runs.values[HEADLINE] for runs in scored.models.values()]
    return found, rank(values, plan.study.resamples, SEED, scored.groups)


def differences(plan: Plan, scored: Scored) -> Grid:
    """Every model beside the reference: how much, how sure, and which place it takes."""
    found, ranking = comparisons(plan, scored)
    by_name = {comparison.name: comparison for comparison in found}
    reference = plan.study.models[plan.study.reference].title
    columns = [("", "model"), ("", f"{reference} leads by, points of Dice"), ("seeds alone", "sd"), ("", "p (Holm)")]
    columns += [("", "claim is false with"), ("effect", "d"), ("better", "% of images"), ("", "rank (95 %)")]
    rows, data = [], []
    for position, (name, runs) in enumerate(scored.models.items()):
        means = runs.values[HEADLINE].mean(1)
        spread = seed_interval(means).error * float(np.sqrt(len(means))) if len(means) > 1 else None
        place = NOTHING
        if ranking is not None:
            place = f"{ranking.ranks[position]} ({ranking.low[position]}–{ranking.high[position]})"
        one = by_name.get(name)
        row = [plan.study.models[name].title, *[NOTHING] * 6, place]
        row[2] = NOTHING if spread is None else f"{100 * spread:.2f}"
        numbers: dict[str, Any] = {"model": name, "seeds_sd": spread}
        if one:
            row[1] = shown(one.difference, 100, 2, signed=True) + ("" if one.difference.seeds else " *")
            row[3:7] = [chance(one.p_holm), chance(one.false_claim), f"{one.effect:+.2f}", f"{100 * one.better:.0f}"]
            numbers |= {"difference": one.difference.mean, "low": one.difference.low, "high": one.difference.high}
            numbers |= {"p": one.p, "p_holm": one.p_holm, "false_claim": one.false_claim}
            numbers |= {"effect": one.effect, "better": one.better, "over_seeds": one.difference.seeds}
        if ranking is not None:
            numbers |= {"rank": int(ranking.ranks[position]), "rank_low": int(ranking.low[position])}
            numbers |= {"rank_high": int(ranking.high[position])}
        rows.append(row)
        data.append(numbers)
    meaning = "Paired over images, each model with its own seeds; p adjusted for all models here (Holm)."
    if any(not one.difference.seeds for one in found):
        meaning += " *: one seed of either; what another training would give is not in the interval."
    notes = [
        meaning,
        "A claim is false when whichever leads here does not lead; effect d in standard deviations over images.",
    ]
    if ranking is not None:
        drawn = "of images, and of the seeds of models with several"
        notes.append(f"Ranks under resampling {drawn}: mean Kendall's tau {ranking.tau:.2f}.")
    if scored.missing:
        cells = ", ".join(scored.missing) if len(scored.missing) <= 6 else f"{len(scored.missing)} cells"
        notes.append(f"Not computed yet: {cells}; ranks and p are of the others.")
    title = f"Differences to {reference}. {plan.study.sets[scored.images].title}"
    return Grid(title, columns, rows, data, notes)


def shown(interval: Interval, factor: float, digits: int, signed: bool = False) -> str:
    """`87.3 (85.4 to 89.1)`."""
    mean, low, high = (factor * value for value in (interval.mean, interval.low, interval.high))
    sign = "+" if signed else ""
    return f"{mean:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def chance(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
