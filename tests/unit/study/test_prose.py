"""Sentences of docs/results.md and README that no table holds say what the kept scores say."""

import csv
import json
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hymunet.evaluation.statistics import Interval, crossed_difference, crossed_interaction
from hymunet.study import plan
from tests.support.training_data import ROOT

CONTRASTS = {"low": (0, 15), "medium": (15, 30), "high": (30, 1000)}  # as evaluation/slices.py divides them
Rows = list[dict[str, str]]


@cache
def runs(study: str, model: str, images: str = "isic2018") -> list[Rows]:
    """Of each seed that is kept, its images in one order."""
    files = sorted((ROOT / f"studies/{study}/results/{images}/{model}").glob("seed-*/per_image.csv"))
    return [sorted(csv.DictReader(file.open()), key=lambda row: row["id"]) for file in files]


def mean(model: str, name: str = "dice", study: str = "comparison", images: str = "isic2018") -> str:
    scale = 100 if name == "dice" else 1
    return f"{scale * np.mean([[float(row[name]) for row in run] for run in runs(study, model, images)]):.1f}"


def leads(ours: list[Rows], theirs: list[Rows], name: str = "dice", where: tuple[float, float] = (0, 1000)) -> str:
    """`2.3 points (1.1 to 3.4)`."""
    chosen = [i for i, row in enumerate(ours[0]) if where[0] <= float(row["contrast"]) < where[1]]
    a, b = (np.array([[float(run[i][name]) for i in chosen] for run in side]) for side in (ours, theirs))
    found = crossed_difference(a, b, [ours[0][i]["group"] or ours[0][i]["id"] for i in chosen])
    return said(found, *((100, "points") if name == "dice" else (1, "px")))


def said(found: Interval, scale: int, unit: str) -> str:
    return f"{scale * found.mean:.1f} {unit} ({scale * found.low:.1f} to {scale * found.high:.1f})"


def gains_more(model: str) -> str:
    """HyM-UNet from the stronger recipe than this one."""

    def dice(study: str, name: str) -> np.ndarray:
        return np.array([[float(row["dice"]) for row in run] for run in runs(study, name)])

    groups = [row["group"] or row["id"] for row in runs(*PAPER)[0]]
    theirs = dice("champion", model), dice("comparison", model)
    return said(crossed_interaction((dice(*SCRATCH), dice(*PAPER)), theirs, groups), 100, "points")


def polyps(model: str, name: str = "dice") -> str:
    """HyM-UNet's lead on Kvasir-SEG; in HD95 how much shorter it is."""
    ours, theirs = (runs("comparison", each, "kvasir") for each in ("hymunet", model))
    return leads(ours, theirs) if name == "dice" else leads(theirs, ours, name)


def poor(model: str) -> str:
    """Images of Kvasir-SEG with Dice under 0.5, by seed."""
    found = [sum(float(row["dice"]) < 0.5 for row in run) for run in runs("comparison", model, "kvasir")]
    return " to ".join(map(str, sorted({min(found), max(found)})))


def counted() -> str:
    study = plan.load(ROOT / "studies/comparison")
    kept = [cell for cell in study.cells if (study.results(cell) / "cell.json").is_file()]
    return f"{len(kept)} of {len(study.cells)} trainings"


def by_contrast(name: str) -> str:
    return leads(runs("champion", "lite2"), runs("comparison", "hymunet"), where=CONTRASTS[name])


def row(study: str, model: str, recipe: str) -> str:
    """Of README's table, from the recipe on."""
    cells = sorted((ROOT / f"studies/{study}/results/isic2018/{model}").glob("seed-*/cell.json"))
    millions = json.loads(cells[0].read_text())["parameters"] / 1e6
    dice, far = mean(model, study=study), mean(model, "hd95", study)
    return f"| {recipe}, {len(cells)} | {dice} | {far} | {millions:.1f} |"


def summed_up(models: tuple[str | None, str | None]) -> str:
    """The last columns of a row of the summary: by the paper's recipe, by the stronger one."""
    cells = [
        f"{mean(model, study=study)} ({mean(model, 'hd95', study)})" if model else "–"
        for study, model in zip(("comparison", "champion"), models, strict=True)
    ]
    return f"| {' | '.join(cells)} |"


def far(model: tuple[str, str]) -> list[int]:
    """Of each seed the images whose lesion is outlined well, with a spot more than 90 px away."""
    return [sum(float(row["dice"]) > 0.85 and float(row["hd95"]) > 90 for row in run) for run in runs(*model)]


PAPER, LITE2, SCANLESS = (("comparison", "hymunet"), ("champion", "lite2"), ("comparison", "no_scan"))
SCRATCH, STRONG_CE_NET, STRONG_SCANLESS = (("champion", name) for name in ("scratch", "ce_net", "no_scan"))
SENTENCES: dict[str, tuple[str, Callable[[], str]]] = {
    "trainings": ("docs/results.md", counted),
    **{
        f"in short, {name}": ("docs/results.md", lambda name=name, models=models: f"{name} {summed_up(models)}")
        for name, models in {
            "| U-Net | 31.0": ("unet", None),
            "| HyM-UNet | 2.6": ("hymunet", "scratch"),
            "convolutions in place of its scans | 2.6": ("no_scan", "no_scan"),
            "| CE-Net | 29.0": ("ce_net", "ce_net"),
        }.items()
    },
    "U-Net's HD95": (
        "docs/results.md",
        lambda: (
            f"HD95 {mean('hymunet', 'hd95')} against {mean('unet', 'hd95')} px, "
            f"by {leads(runs('comparison', 'unet'), runs(*PAPER), 'hd95')}"
        ),
    ),
    "U-Net": (
        "docs/results.md",
        lambda: f"The lead of {leads(runs(*PAPER), runs('comparison', 'unet'))} is not settled",
    ),
    "U-Net on the random split": (
        "docs/results.md",
        lambda: "lead over U-Net is here {} and {} of HD95".format(
            leads(*(runs("comparison", model, "isic2018_random") for model in ("hymunet", "unet"))),
            leads(*(runs("comparison", model, "isic2018_random") for model in ("unet", "hymunet")), "hd95"),
        ),
    ),
    "the pretrained trunk at a lower rate": (
        "docs/results.md",
        lambda: f"scores {leads(*(runs('recipe', name) for name in ('strong_lite2_slow', 'strong_lite2')))} more",
    ),
    "the base size on the pretrained trunk": (
        "docs/results.md",
        lambda: f"scores {leads(*(runs('recipe', f'strong_lite2_{name}') for name in ('slow', 'wide')))} less",
    ),
    "without scans": (
        "docs/results.md",
        lambda: f"scores {mean('no_scan')} over three seeds, by {leads(runs(*SCANLESS), runs(*PAPER))}",
    ),
    "HD95 without scans": (
        "docs/results.md",
        lambda: f"{mean('no_scan', 'hd95')} px, by {leads(runs(*SCANLESS), runs(*PAPER), 'hd95')}",
    ),
    "CE-Net": (
        "docs/results.md",
        lambda: (
            f"{mean('ce_net')} over three seeds, by {leads(runs('comparison', 'ce_net'), runs(*PAPER))} over HyM-UNet"
        ),
    ),
    **{
        model: ("docs/results.md", lambda model=model: f"by {leads(runs(*PAPER), runs('comparison', model))}")
        for model in ("unetpp", "swin_unet_slow")
    },
    "over the paper's recipe": (
        "docs/results.md",
        lambda: f"over HyM-UNet by the paper's recipe {leads(runs(*LITE2), runs(*PAPER))}",
    ),
    "from scratch": (
        "docs/results.md",
        lambda: (
            f"**Dice {mean('scratch', study='champion')}** (five seeds), "
            f"over the paper's recipe {leads(runs(*SCRATCH), runs(*PAPER))}"
        ),
    ),
    "what CE-Net and the convolutions gain": (
        "docs/results.md",
        lambda: (
            f"CE-Net gains {leads(runs('champion', 'ce_net'), runs('comparison', 'ce_net'))} from it, "
            f"HyM-UNet without its scans {leads(runs('champion', 'no_scan'), runs(*SCANLESS))}, three seeds each"
        ),
    ),
    "who gains more": (
        "docs/results.md",
        lambda: f"by {gains_more('ce_net')} than CE-Net, by {gains_more('no_scan')} than without scans",
    ),
    "HD95 by the stronger recipe": (
        "docs/results.md",
        lambda: (
            f"leads both: CE-Net by {leads(runs(*STRONG_CE_NET), runs(*SCRATCH), 'hd95')}, "
            f"without scans by {leads(runs(*STRONG_SCANLESS), runs(*SCRATCH), 'hd95')}"
        ),
    ),
    "the scans by the stronger recipe": (
        "docs/results.md",
        lambda: (
            f"**So here the scans are worth {leads(runs(*SCRATCH), runs('champion', 'no_scan'))}**, "
            f"and HyM-UNet leads CE-Net by {leads(runs(*SCRATCH), runs('champion', 'ce_net'))}"
        ),
    ),
    "far spots": (
        "docs/results.md",
        lambda: (
            f"{mean('scratch', 'hd95', 'champion')} px in place of {mean('hymunet', 'hd95')} "
            f"(by {leads(runs(*SCRATCH), runs(*PAPER), 'hd95')}), CE-Net's {mean('ce_net', 'hd95', 'champion')} "
            f"and without scans {mean('no_scan', 'hd95', 'champion')}"
        ),
    ),
    "each seed from scratch": (
        "docs/results.md",
        lambda: "{}, {}, {}, {} and {}.".format(
            *(f"{100 * np.mean([float(row['dice']) for row in run]):.1f}" for run in runs(*SCRATCH))
        ),
    ),
    "where far spots are": (
        "docs/results.md",
        lambda: (
            f"in {min(far(SCRATCH))} to {max(far(SCRATCH))} of 260 images by seed, "
            f"{min(far(STRONG_CE_NET))} to {max(far(STRONG_CE_NET))} with CE-Net, "
            f"{min(far(STRONG_SCANLESS))} to {max(far(STRONG_SCANLESS))} without scans, "
            f"{max(far(PAPER)) or 'none'} with HyM-UNet by the paper's recipe, "
            f"and {min(far(LITE2))} to {max(far(LITE2))} on the pretrained trunk"
        ),
    ),
    "the scans, in README": (
        "README.md",
        lambda: leads(runs(*SCRATCH), runs("champion", "no_scan")),
    ),
    "what the trunk adds": ("docs/results.md", lambda: f"adds to the recipe, {leads(runs(*LITE2), runs(*SCRATCH))}"),
    "VM-UNet": ("docs/results.md", lambda: f"which leads by {leads(runs('comparison', 'vm_unet'), runs(*PAPER))}"),
    "over CE-Net": ("docs/results.md", lambda: f"over CE-Net {leads(runs(*LITE2), runs('comparison', 'ce_net'))}"),
    "low contrast": ("docs/results.md", lambda: f"over the five seeds of each {by_contrast('low')}"),
    "medium contrast": ("docs/results.md", lambda: f"on medium contrast {by_contrast('medium')}"),
    "high contrast": ("docs/results.md", lambda: f"on high {by_contrast('high')}"),
    **{
        f"polyps, {name}": ("docs/results.md", sentence)
        for name, sentence in {
            "Dice": lambda: "scores Dice {}, VM-UNet {}, Attention U-Net {} and U-Net {}**, three seeds each".format(
                *(mean(model, images="kvasir") for model in ("hymunet", "vm_unet", "attention_unet", "unet"))
            ),
            "U-Net": lambda: f"leaves 0 out**: {polyps('unet')}",
            "HD95": lambda: "HD95 {} px in place of {}, by {}.".format(
                *(mean(model, "hd95", images="kvasir") for model in ("hymunet", "unet")), polyps("unet", "hd95")
            ),
            "in short": lambda: (
                f"by {polyps('unet').replace('points', 'points of Dice')} and by "
                f"{polyps('unet', 'hd95').replace('px', 'px of HD95')}"
            ),
            "where they fail": lambda: (
                "HyM-UNet outlines {} by seed with Dice under 0.5, VM-UNet {}, Attention U-Net {}, U-Net {}.".format(
                    *(poor(model) for model in ("hymunet", "vm_unet", "attention_unet", "unet"))
                )
            ),
            "Attention U-Net": lambda: (
                f"not settled: {polyps('attention_unet')}; "
                f"its boundaries are closer by {polyps('attention_unet', 'hd95')}"
            ),
            "VM-UNet": lambda: f"leads by {polyps('vm_unet')} and by {polyps('vm_unet', 'hd95')}",
            "seeds": lambda: "own seeds are {}, {} and {}.".format(
                *(
                    f"{100 * np.mean([float(row['dice']) for row in run]):.1f}"
                    for run in runs("comparison", "hymunet", "kvasir")
                )
            ),
            "beside the packaged model": lambda: f"scores {mean('hymunet', images='kvasir')} on its 100 test images",
        }.items()
    },
    "polyps, in README": (
        "README.md",
        lambda: f"HyM-UNet ({mean('hymunet', images='kvasir')}) leads U-Net by {polyps('unet')}",
    ),
    **{
        f"README, {study} {model}": (
            "README.md",
            lambda study=study, model=model, recipe=recipe: row(study, model, recipe),
        )
        for study, model, recipe in (
            (*LITE2, "strong"),
            (*SCRATCH, "strong"),
            ("champion", "ce_net", "strong"),
            ("champion", "no_scan", "strong"),
            (*SCANLESS, "the paper's"),
            (*PAPER, "the paper's"),
            ("comparison", "ce_net", "the paper's"),
            ("comparison", "unet", "the paper's"),
        )
    },
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_prose_says_what_the_kept_scores_say(sentence: str) -> None:
    document, wanted = SENTENCES[sentence]
    text = re.sub(r"\s+", " ", (ROOT / document).read_text())
    assert wanted() in text
