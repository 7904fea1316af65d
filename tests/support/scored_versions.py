"""Versions of a model as folders that hold what promotion reads: records that agree, and scores of one's choice."""

import hashlib
import json
from pathlib import Path

import numpy as np

from hymunet import params
from hymunet.evaluation.slices import COLUMNS

POLICY = params.Promote(
    step="off",
    rule="non_inferiority",
    margin=0.01,
    slice_margin=0.03,
    min_dice=0.5,
    max_missed=0.1,
    more_missed=0,
    max_leaked=0,
    max_decisions=20,
    reproducible=True,
    contract=False,
    max_ece=0.1,
    max_shift_drop=None,
    max_slower=None,
    max_larger=None,
    approval=False,
    signed_by=[],
)
SUPERIOR = POLICY.model_copy(update={"rule": "superiority"})
BASE = np.random.default_rng(0).uniform(0.7, 0.95, 120)  # a champion's Dice
NOISE = np.random.default_rng(1).normal(0, 0.01, 120)
BETTER = BASE + 0.02 + NOISE / 4
DATA, COMMIT, LOCK = "d" * 64, "c" * 40, "e" * 64
TAGS = {"hymunet.git_commit": COMMIT, "hymunet.dvc_lock_sha256": LOCK}
TRAINED = 30  # images of training and validation, beside those of the test


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_version(folder: Path, dice: np.ndarray, *, weights: bytes = b"weights", prefix: str = "t", **changes) -> None:
    """The folder of a version whose test images score `dice` (n,); lesions grow with the image's number.

    changes: groups, files (of the test images: names of groups, contents), passed (the data checks' verdict), left_out
    (how many test images, the last ones, the evaluation could not use), record (what metrics.json says besides), native
    (Dice at the images' own size, (n,)). Every fourth image has much hair.
    """
    kept = len(dice) - changes.get("left_out", 0)
    ids = [f"{prefix}{number:04}" for number in range(len(dice))]
    groups = changes.get("groups") or [f"g-{id}" for id in ids]
    contents = changes.get("files") or [f"image {id}" for id in ids]
    seen = [f"s{number:04}" for number in range(TRAINED)]
    parts = ["train" if number % 5 else "validation" for number in range(TRAINED)]
    split = "id,group,split\n" + "".join(f"{id},{id},{part}\n" for id, part in zip(seen, parts, strict=True))
    split += "".join(f"{id},{group},test\n" for id, group in zip(ids, groups, strict=True))
    pairs = dict(zip([*seen, *ids], [*(f"image {id}" for id in seen), *contents], strict=True))
    hashes = {id: (sha256(text.encode()), sha256(f"mask {id}".encode())) for id, text in pairs.items()}
    files = "id,sha256_image,sha256_mask\n" + "".join(f"{id},{image},{mask}\n" for id, (image, mask) in hashes.items())
    native = changes.get("native", dice)
    table = f"id,dice,native_dice,hd95,true_positive,false_negative,{','.join(COLUMNS.values())}\n"
    for number, (id, score) in enumerate(zip(ids[:kept], dice[:kept], strict=True)):
        truth = 100 + 10 * number
        found = 0 if score == 0 else max(1, round(float(score) * truth))
        facts = {"mask_area": 0.1, "contrast": 20.0, "hair": 0.03 if number % 4 == 1 else 0.0, "components": 1}
        facts |= {"touches_border": 0, "dark_corners": 0, "ruler": 0, "sticker": 0, "megapixels": 0.5}
        own = ",".join(str(facts[column]) for column in COLUMNS.values())
        table += f"{id},{float(score)!r},{float(native[number])!r},1.0,{found},{truth - found},{own}\n"
    made = {"weights_sha256": sha256(weights), "data_sha256": DATA, "split_sha256": sha256(split.encode())}
    tested = sha256(json.dumps(sorted((id, *hashes[id]) for id in ids[:kept])).encode())
    metrics = {
        **made,
        "left_out": dict.fromkeys(ids[kept:], "truncated file"),
        "test_images_sha256": tested,
        "per_image_sha256": sha256(table.encode()),
    }
    metrics |= {"calibration": {"band": {"ece": 0.02}}, "shifts": None, "image_size": 64} | changes.get("record", {})
    verdict = {"passed": changes.get("passed", True), **{key: made[key] for key in ("data_sha256", "split_sha256")}}
    for name, content in {
        "artifacts/model/model.safetensors": weights,
        "artifacts/model/model.json": json.dumps(made).encode(),
        "evaluation/metrics.json": json.dumps(metrics).encode(),
        "evaluation/per_image.csv": table.encode(),
        "grounds/split.csv": split.encode(),
        "grounds/files.csv": files.encode(),
        "grounds/verdict.json": json.dumps(verdict).encode(),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def images_tested(folder: Path) -> str:
    return json.loads((folder / "evaluation/metrics.json").read_text())["test_images_sha256"]
