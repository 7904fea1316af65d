"""What scores and columns are called where people read them, and which way is good."""

from hymunet import metrics

SCORES = {
    "dice": "Dice",
    "iou": "IoU (Jaccard)",
    "iou_at_65": "IoU, 0 below 0.65",
    "precision": "Precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "hd95": "HD95, pixels",
    "hd95_fraction": "HD95, of the diagonal",
    "assd": "ASSD, pixels",
    **{f"nsd_{tolerance}px": f"NSD within {tolerance} px" for tolerance in metrics.TOLERANCES_PX},
    **{f"nsd_{tolerance}pct": f"NSD within {tolerance} % of the diagonal" for tolerance in metrics.TOLERANCES_PERCENT},
    "boundary_iou": "Boundary IoU",
    "missed_lesions": "Missed lesions",
    "wrong_objects": "Wrong objects",
    "area_error": "Area error, of the lesion",
}
TOGETHER = {  # by what says which images belong together
    None: "near-duplicates were not looked for",
    "near-duplicates": "near-duplicates drawn together",
    "groups.csv": "groups of groups.csv drawn together; near-duplicates were not looked for",
    "near-duplicates and groups.csv": "near-duplicates and groups of groups.csv drawn together",
}
APART = "The two evaluations put other images together; what either puts together is drawn together here."
OTHERS = {
    "confidence": "Confidence",
    "suspicion": "Label contradicts (confidence - Dice)",
    "mask_area": "Lesion, share of the image",
    "contrast": "Contrast to the skin, ΔE",
    "hair": "Hair, share of the image",
    "megapixels": "Native megapixels",
    "components": "Objects in the truth",
}
LOW_IS_GOOD = {"hd95", "hd95_fraction", "assd", "missed_lesions", "wrong_objects"}


def digits(name: str) -> int:
    return 2 if name in ("hd95", "assd", "missed_lesions", "wrong_objects") else 4
