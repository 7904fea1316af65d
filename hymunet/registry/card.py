"""The model card: what a version is, what it was tested on, and what it is not for."""

from typing import Any

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


def card(
    name: str, info: dict[str, Any], evaluation: dict[str, Any], split: dict[str, Any], code: dict[str, str]
) -> str:
    """Markdown. info: model.json; evaluation: metrics.json; split: split.json; code: where the version comes from."""
    test, model, size = evaluation["test"], info["model"], info["image_size"]
    rows = "\n".join(
        f"| {NAMES[key]} | {test[key]['mean']:.4f} | {test[key]['low']:.4f} to {test[key]['high']:.4f} | "
        f"{format(test['pooled'][key], '.4f') if key in test['pooled'] else ''} |"
        for key in NAMES
    )
    origin = "\n".join(f"| {key} | `{value}` |" for key, value in code.items())
    sizes = ", ".join(f"{count} {split_name}" for split_name, count in split["sizes"].items())
    left_out = len(evaluation.get("left_out") or ())
    flips = ", averaged over flips" if evaluation["flips"] else ""
    images, target = SOURCES.get(evaluation["source"], (f"images of {evaluation['source']}", "outlined region"))
    return f"""# {name}

Segments the {target} in an image: {model["name"]}, size {model.get("size", "as published")}, trained at {size}×{size}
pixels.
**For research use only; not a medical device.** It must not guide a diagnosis or a treatment.

## Input and output
uint8 RGB images (N, H, W, 3) of any size; masks uint8 (N, H, W), 1 where the probability exceeds
{evaluation["threshold"]:g}{flips}. Images are brought to {size}×{size} inside, probabilities back to the image's size.

## Test
{counted(test["images"], "image")} that neither training nor the choice of its weights has seen; {test["missed"]} missed
entirely{f", {left_out} left out because they could not be used" if left_out else ""}.
Mean over images with a 95 % bootstrap interval, and all pixels pooled. A missed target counts with Dice 0 and with the
image's diagonal as its distance.

| metric | mean | 95 % interval | pooled |
|---|---|---|---|
{rows}

## Data
Trained and tested on {images}; source `{evaluation["source"]}`.
Split `{split["protocol"]}`, seed {split["seed"]}: {sizes}.
Weights chosen by validation Dice {info["validation_dice"]:.4f} in epoch {info["epoch"]}.

## Limits
Scores hold for images like those of the test set. Other devices, people, body sites or image sizes need a test of
their own. Masks are one annotator's outline; agreement between experts bounds what any score can mean.

## Origin
| | |
|---|---|
{origin}
"""
