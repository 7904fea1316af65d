"""`hymunet predict`. Heavy libraries are imported when it runs."""

import argparse
from pathlib import Path

from hymunet import bundled

SOURCES = """\
SOURCE is an image file; a folder (searched to its depths); a pattern in quotes ('scans/**/*.jpg'); a ZIP, which is not
unpacked; a CSV list with a column image or path; or - for paths, one a line, or one image's bytes, on standard input.
Paths below a folder, pattern or ZIP are kept below the output folder.
"""


def add(predict: argparse.ArgumentParser) -> None:
    predict.epilog = SOURCES
    predict.formatter_class = argparse.RawDescriptionHelpFormatter
    predict.add_argument("sources", nargs="+", metavar="SOURCE", help="images; see below")
    folder = "folder for results and predictions.csv (predictions)"
    predict.add_argument("--output", type=Path, default=Path("predictions"), help=folder)
    where = "a trained model's folder, models:/NAME@ALIAS or /VERSION, FILE.onnx (needs no torch), or bundled "
    where += f"({bundled.TRAINED} where there is one, else bundled); again: an ensemble"
    predict.add_argument("--model", action="append", help=where)
    tested = "of the model: whose threshold and flips are used (a version's own; reports/evaluation where it is)"
    predict.add_argument("--evaluation", type=Path, help=tested)
    kinds = "of mask, overlay, probability, contours, coco (mask,overlay)"
    predict.add_argument("--save", default="mask,overlay", metavar="KIND,...", help=kinds)
    faster = "bf16: faster on GPUs and with AMX (auto: where hardware has bf16); pixels at the threshold may differ"
    predict.add_argument("--precision", choices=("float32", "auto", "bf16"), default="float32", help=faster)
    most = "of an image (250,000,000); each takes up to 20 bytes of memory"
    predict.add_argument("--max-pixels", type=int, metavar="N", help=most)
    predict.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from hymunet.prediction import results, sources

    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise ValueError(f"--max-pixels {arguments.max_pixels} must be at least 1")
    wanted = results.kinds(arguments.save)
    entries = results.nameable(sources.entries(arguments.sources, arguments.output), arguments.output, wanted)
    results.require_free(entries, arguments.output, wanted)

    from hymunet.prediction.open import open_models
    from hymunet.prediction.run import MOST, Run

    places = arguments.model or [bundled.default()]
    model = open_models(places, arguments.evaluation, arguments.precision, len(entries))
    outcome = Run(model, arguments.output, wanted, arguments.max_pixels or MOST).over(entries)
    already = f", {outcome.skipped} were there already" if outcome.skipped else ""
    table = f": {arguments.output}/predictions.csv" if outcome.written or outcome.skipped else ""
    print(f"{outcome.written} image{'s' if outcome.written != 1 else ''} segmented{already}{table}")
    if outcome.unlike:
        are = "are" if outcome.unlike != 1 else "is"
        print(f"{outcome.unlike} {are} unlike the images that the model was trained on: column out_of_distribution")
    how = ", averaged over flips" if model.flips else ""
    how += ", the largest region alone" if model.largest_region else ""
    print(f"lesion where the probability exceeds {model.threshold:g}{how} ({model.decides})", flush=True)
    outcome.require_all()
