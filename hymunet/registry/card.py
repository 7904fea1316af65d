"""The model card: what a version is, what it was tested on, and what it is not for."""

from typing import Any

from hymunet.evaluation.record import false_alarms
from hymunet.registry.words import counted

NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "Precision",
    "hd95": "HD95 (pixels)",
    "hd95_fraction": "HD95 / diagonal",
}


SOURCES = {  # what the images of a source show, and what is outlined in them
    "isic2018": ("dermoscopic images of skin (ISIC 2018, Task 1)", "skin lesion"),
    "kvasir_seg": ("endoscopic images of the bowel (Kvasir-SEG)", "polyp"),
    "synthetic": ("images drawn by a program, not photographs", "drawn lesion"),
    "folder": ("images of its maker's own folder", "region that its maker's masks outline"),
}
LICENCES = {  # where it says what the images may be used for
    "isic2018": "LICENSE.txt and ATTRIBUTION.txt in their archives",
    "kvasir_seg": "the terms of their publisher",
    "synthetic": "that of the program that draws them, Apache-2.0",
}
WORST = 5  # slices that the card names


def card(
    name: str,
    info: dict[str, Any],
    evaluation: dict[str, Any],
    split: dict[str, Any],
    code: dict[str, str],
    spent: str = "",
) -> str:
    """Markdown. info: model.json; evaluation: metrics.json; split: split.json; code: where the version comes from;
    spent: what its training took, in a sentence."""
    test, model, size = evaluation["test"], info["model"], info["image_size"]
    rows = "\n".join(
        f"| {NAMES[key]} | {test[key]['mean']:.4f} | {test[key]['low']:.4f} to {test[key]['high']:.4f} | "
        f"{format(test['pooled'][key], '.4f') if key in test['pooled'] else ''} |"
        for key in NAMES
    )
    origin = "\n".join(f"| {key} | `{value}` |" for key, value in code.items())
    sizes = ", ".join(f"{count} {split_name}" for split_name, count in split["sizes"].items())
    left_out = len(evaluation.get("left_out") or ())
    how = ", averaged over flips" if evaluation["flips"] else ""
    how += "; of these the largest region alone" if evaluation.get("largest_region") else ""
    alarms = f"\n{said}." if (said := false_alarms(test)) else ""
    images, target = SOURCES.get(evaluation["source"], (f"images of {evaluation['source']}", "outlined region"))
    return f"""# {name}

Segments the {target} in an image: {model["name"]}, size {model.get("size", "as published")}, trained at {size}×{size}
pixels.
**For research use only; not a medical device.** It must not guide a diagnosis or a treatment.

## Input and output
uint8 RGB images (N, H, W, 3) of any size; masks uint8 (N, H, W), 1 where the probability exceeds
{evaluation["threshold"]:g}{how}. Images are brought to {size}×{size} inside, probabilities back to the image's size.

## Test
{counted(test["images"], "image")} that neither training nor the choice of its weights has seen; {test["missed"]} missed
entirely{f", {left_out} left out because they could not be used" if left_out else ""}.
Mean over images with a 95 % bootstrap interval, and all pixels pooled. A missed target counts with Dice 0 and with the
image's diagonal as its distance.{alarms}

| metric | mean | 95 % interval | pooled |
|---|---|---|---|
{rows}

{_reliance(evaluation)}
## Data
Trained and tested on {images}; source `{evaluation["source"]}`.
Split `{split["protocol"]}`, seed {split["seed"]}: {sizes}.
Licence of the images: {LICENCES.get(evaluation["source"], "what their owner says")}. It binds what is made from them.
Weights chosen by validation Dice {info["validation_dice"]:.4f} in epoch {info["epoch"]}.

## Cost
{spent or "What the training took is not known: it was not tracked."}

## Limits
Scores hold for images like those of the test set. Other devices, people, body sites or image sizes need a test of
their own. Masks are one annotator's outline; agreement between experts bounds what any score can mean.

## Origin
| | |
|---|---|
{origin}
"""


def _reliance(evaluation: dict[str, Any]) -> str:
    """Where it does worst, and what its probabilities are worth, as far as the evaluation says."""
    lines = []
    slices = [entry for entry in evaluation.get("slices") or () if not entry["small"]]
    if slices:
        worst = sorted(slices, key=lambda entry: entry["dice"]["mean"])[:WORST]
        rows = "\n".join(
            f"| {entry['slice']}: {entry['value']} | {entry['images']} | {entry['dice']['mean']:.4f} | "
            f"{entry['dice']['low']:.4f} to {entry['dice']['high']:.4f} |"
            for entry in worst
        )
        lines.append(
            f"## Where it does worst\nOf {counted(len(slices), 'slice')} of 20 images or more, by mean Dice.\n\n"
            f"| slice | images | Dice | 95 % interval |\n|---|---|---|---|\n{rows}\n"
        )
    band = (evaluation.get("calibration") or {}).get("band")
    if band:
        lines.append(
            f"## Probabilities\nLogits are divided by the temperature {evaluation['temperature']:g}. In and around the "
            f"lesions the expected calibration error is {band['ece']:.4f}.\n"
        )
    shifts = evaluation.get("shifts") or ()
    if shifts:
        most = min(shifts, key=lambda entry: entry["difference"]["mean"])
        lines.append(
            f"Of all changes tried it loses most with: {most['shift']} ({most['difference']['mean']:+.4f} Dice).\n"
        )
    return "\n".join(lines)
