"""Gates that one version passes or not by itself."""

from collections.abc import Sequence

from hymunet.registry.evidence import Evidence
from hymunet.registry.gate import NOT_ASKED, Gate, Missing, at_most, lacks, recorded, scores_of
from hymunet.registry.lock import NONE, OTHER
from hymunet.registry.words import counted

LEFT_OUT = 0.05  # of the test images


def one_making(version: Evidence) -> Gate:
    """The records name the weights, the split, the test images and the scores that lie there."""
    if version.missing:
        raise Missing("; ".join(version.missing))
    if version.changed:
        why = "files are not those that were registered; register it again"
        return Gate("records", False, "; ".join(version.changed[:3]), "as registered", why)
    found = {
        "weights_sha256": version.hashes["weights"],
        "split_sha256": version.hashes["split"],
        "per_image_sha256": version.hashes["scores"],
        "test_images_sha256": version.test_images,
        "data_sha256": version.model.get("data_sha256"),
    }
    wrong = [f"metrics.json: {key}" for key, value in found.items() if not value or version.metrics.get(key) != value]
    wrong += [
        f"model.json: {key}" for key in ("weights_sha256", "split_sha256") if version.model.get(key) != found[key]
    ]
    if version.scores is None or set(version.scores.ids) != version.tested:
        wrong.append("per_image.csv: other images than the split's test images")
    said = "the weights, the evaluation or the split are of another making, or were changed since"
    return Gate("records", not wrong, ", ".join(wrong) or "all agree", "all agree", said if wrong else "")


def few_left_out(version: Evidence) -> Gate:
    """Test images that the evaluation could not use (`on_bad: drop`): who leaves out the hard ones scores well."""
    if not version.images:
        raise Missing(lacks(version, "the split"))
    left, of = len(version.left_out), len(version.tested | version.left_out)
    why = "mend these images and evaluate again"
    return at_most("images left out", left, LEFT_OUT * of, f"{left} of {of}", f"at most {LEFT_OUT:.0%}", why)


def data_checks(version: Evidence) -> Gate:
    if not version.verdict:
        raise Missing(lacks(version, "the verdict of the data checks"))
    own = all(version.verdict.get(key) == version.model.get(key) for key in ("data_sha256", "split_sha256"))
    passed = version.verdict.get("passed") is True
    figure = ("passed" if passed else "failed") + ("" if own else ", on other data")
    why = "" if own and passed else "see the report of the validate step, mend the data, train again"
    return Gate("data checks", own and passed, figure, "passed, on the data trained with", why)


def no_leak(version: Evidence, most: int) -> Gate:
    """Test images whose file, or a near-duplicate, is among the images of training or validation."""
    if not version.images:
        raise Missing(lacks(version, "the split"))
    seen = [image for image in version.images.values() if image.part != "test"]
    groups, files = {image.group for image in seen}, {image.sha256 for image in seen}
    leaked = sorted(
        id
        for id, image in version.images.items()
        if image.part == "test" and (image.group in groups or image.sha256 in files)
    )
    named = f": {', '.join(leaked[:3])}{', …' if len(leaked) > 3 else ''}" if leaked else ""
    why = "a score on images that were trained with says nothing; split with protocol grouped and train again"
    return at_most("leakage", len(leaked), most, f"{counted(len(leaked), 'test image')}{named}", f"at most {most}", why)


def reproducible(version: Evidence, asked: bool) -> Gate:
    commit = version.commit if version.commit not in ("", "unknown") else "no commit"
    lock = {"": "no dvc.lock", NONE: "no dvc.lock", OTHER: f"dvc.lock {OTHER}"}.get(version.lock, "dvc.lock known")
    good = commit != "no commit" and not commit.endswith("-dirty") and lock == "dvc.lock known"
    shown = commit[:12] + "-dirty" * commit.endswith("-dirty")
    why = "" if good or not asked else "commit what changed and run dvc repro, so that this model can be made again"
    return Gate("reproducible", good or not asked, f"{shown}, {lock}", "asked for" if asked else NOT_ASKED, why)


def signature(version: Evidence, signers: Sequence[str]) -> Gate:
    """All files are those that a known key vouches for."""
    name, seal = "signature", version.seal
    if not signers:
        return Gate(name, True, "not looked at", NOT_ASKED)
    if seal is None or seal.problems is None:
        raise Missing(f"version {version.version} has no manifest of its files; register it again")
    threshold = f"by one of {counted(len(signers), 'key')}"
    if seal.problems:
        return Gate(name, False, "; ".join(seal.problems[:3]), threshold, "files are not those that were registered")
    figure = f"by {seal.signer[:8]}…" if seal.signer else "unsigned"
    why = "sign it with a key that promote.signed_by names: hymunet models sign"
    return Gate(name, seal.signer in signers, figure, threshold, "" if seal.signer in signers else why)


def contract(version: Evidence, asked: bool) -> Gate:
    """Run in the environment that it declares, it makes the promised masks and refuses what is no photograph."""
    name = "contract"
    if not asked:
        return Gate(name, True, "not tried", NOT_ASKED)
    if version.broken is None:
        raise Missing(version.untried or f"version {version.version} was not run")
    why = "what is loaded from the registry is not the model that was tested; register it again"
    figure = "; ".join(version.broken[:3]) or "kept, in the environment that it declares"
    return Gate(name, not version.broken, figure, "kept", why if version.broken else "")


def floor(version: Evidence, least: float) -> Gate:
    mean = float(scores_of(version).dice.mean())
    return Gate("Dice floor", mean >= least, f"{mean:.4f}", f"at least {least:g}")


def few_missed(version: Evidence, most: float) -> Gate:
    """Of the images that show a lesion."""
    scores = scores_of(version)
    of = int((scores.truth > 0).sum())
    if not of:
        raise Missing("no test image shows a lesion; test it on some that do")
    return at_most("missed", scores.missed / of, most, f"{scores.missed} of {of}", f"at most {most:.1%}")


def calibrated(version: Evidence, most: float) -> Gate:
    """The expected calibration error on the pixels in and around the lesions."""
    error = recorded(version, "calibration", "band", "ece")
    if isinstance(error, bool) or not isinstance(error, int | float) or not 0 <= error <= 1:
        raise Missing(
            f"version {version.version}'s metrics.json: calibration.band.ece = {error!r}: no share from 0 to 1"
        )
    why = "its probabilities do not mean what they say; evaluate it with temperature: validation"
    return at_most("calibration", error, most, f"{error:.4f} (ECE around the lesions)", f"at most {most:g}", why)


def steady(version: Evidence, most: float | None) -> Gate:
    """What mean Dice loses at most under other light, blur, JPEG, hair and turns."""
    name = "behaviour"
    if most is None:
        return Gate(name, True, "not looked at", NOT_ASKED)
    try:
        found = {entry["shift"]: -float(entry["difference"]["mean"]) for entry in recorded(version, "shifts")}
        worst = max(found, key=lambda shift: found[shift])
    except (KeyError, TypeError, ValueError):
        raise Missing(f"version {version.version}'s metrics.json holds shifts that cannot be read") from None
    except Missing:
        raise Missing(f"version {version.version} was evaluated without shifts; set evaluate.shifts: true") from None
    return at_most(name, found[worst], most, f"{-found[worst]:+.4f} ({worst})", f"at least {-most:+.4f}")
