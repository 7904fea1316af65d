"""The champion scored again, on the images that the challenger was tested on, by the evaluation's own code.

Of the version, weights and records are read; none of its code is run. The model is built by the code that is here: what
it scores is what this code makes of those weights.
"""

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from hymunet import params
from hymunet.evaluation.evaluate import Origin, examine, weights_and_code
from hymunet.evaluation.record import TABLE
from hymunet.inference import Segmenter
from hymunet.registry.evidence import Evidence, scores_of
from hymunet.registry.gate import lacks
from hymunet.registry.originals import Originals

# Of these, a settled segmenter needs the resamples alone; the gates draw their own.
SECTION = params.Evaluate(threshold=0.5, temperature=1.0, flips=False, shifts=False, bootstrap=100, seed=0)
REMEDY = "name the folder that holds them as they were with --rescore"


def rescored(champion: Evidence, folder: Path, challenger: Evidence, raw: Path, masks_on: str | None) -> Evidence:
    """The champion's evidence with the scores on the challenger's test images, deciding as it was tested.

    folder: the champion's files; raw: what the download step wrote for the challenger's data. Raises ValueError where
    images or weights cannot be read, or the images are not those that the challenger was tested on.
    """
    if not challenger.tested or challenger.metrics.get("test_images_sha256") != challenger.test_images:
        raise ValueError(lacks(challenger, "the hashes of its test images"))
    segmenter = Segmenter.as_tested(folder / "artifacts/model", folder / "evaluation")
    wanted = {id: challenger.images[id] for id in challenger.tested}
    grouped_by = challenger.metrics.get("grouped_by", "near-duplicates")
    cases = Originals(raw, wanted, segmenter.image_size, masks_on, grouped_by)
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary)
        made_from = weights_and_code(segmenter)
        origin = Origin(made_from, {"source": cases.source}, remedy=REMEDY)
        metrics = examine(segmenter, cases, origin, output, SECTION)
        table = (output / TABLE).read_bytes()
    if metrics["test_images_sha256"] != challenger.test_images:
        raise ValueError(f"{raw}: masks are others than those that version {challenger.version} was tested on")
    hashes = {**champion.hashes, "scores": hashlib.sha256(table).hexdigest()}
    return replace(champion, metrics=metrics, scores=scores_of(table), hashes=hashes, rescored=True)
