"""Compile the pipeline, run it here in containers, submit it to a cluster, schedule, look, bring results home."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hymunet import extras
from hymunet.addresses import without_secrets
from hymunet.places import in_words, require_folder
from hymunet.streams import by_line

if TYPE_CHECKING:
    from pipelines.settings import Settings

SETTINGS = Path("infra/kubeflow/settings.yaml")


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m pipelines", description=__doc__)
    verbs = main.add_subparsers(dest="verb", required=True)
    pipeline = argparse.ArgumentParser(add_help=False)
    pipeline.add_argument("--settings", type=Path, default=SETTINGS, help="where it runs: images, stores, secrets")
    pipeline.add_argument("--params", type=Path, default=Path("params.yaml"))
    pipeline.add_argument("--profile", help="profiles/NAME.yaml over profiles/paper.yaml, in place of --params")
    pipeline.add_argument(
        "-S", "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="train.epochs=2"
    )
    pipeline.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="WHICH=IMAGE",
        help="cpu, data or accelerator, over the settings",
    )
    pipeline.add_argument("--allow-tags", action="store_true", help="take images by tag, which may move")
    pipeline.add_argument("--pipeline", choices=["training", "study", "predict"], default="training")
    study = pipeline.add_argument_group("--pipeline study: models × sets × seeds, the data once, tables at the end")
    study.add_argument("--study", type=Path, default=Path("studies/comparison"), help="its folder")
    study.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="cells: isic2018/unet, '*/seed-0'"
    )
    study.add_argument("--parallel", type=int, default=4, help="cells at a time, one GPU each (4)")
    predict = pipeline.add_argument_group("--pipeline predict: masks for every image of a bucket")
    predict.add_argument("--model", default="models:/hymunet@champion", help="models:/NAME@ALIAS or /VERSION")
    predict.add_argument("--source", default="", metavar="PLACE", help="of the images: s3://bucket/prefix")
    predict.add_argument("--target", default="", metavar="PLACE", help="of masks, predictions.csv and drift.json")
    predict.add_argument("--save", default="mask", metavar="KIND,...", help="mask,overlay,probability,contours")
    predict.add_argument(
        "--reference", default="", metavar="RUN", help="that trained the model, to compare images with"
    )
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument(
        "--host", help="the Kubeflow Pipelines API; default: KF_PIPELINES_ENDPOINT, or the cluster's own"
    )
    server.add_argument("--namespace", help="your Kubeflow profile, where it has several users")
    server.add_argument(
        "--auth",
        choices=["none", "token", "service-account", "session"],
        default="none",
        help="token: KFP_TOKEN; service-account: the pod's own; session: KFP_COOKIES, the browser's",
    )
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument("--settings", type=Path, default=SETTINGS)

    verb = verbs.add_parser("compile", parents=[pipeline], help="write the pipeline's YAML")
    verb.add_argument("--output", type=Path, default=Path("build/pipeline.yaml"))
    kinds = "package: for submitting; pipelineversion: Kubernetes objects, for GitOps and Kubeflow's native API"
    verb.add_argument("--as", dest="form", choices=["package", "pipelineversion"], default="package", help=kinds)
    verb.add_argument("--namespace", default="kubeflow", help="of the objects")
    verb = verbs.add_parser("run-local", parents=[pipeline], help="run the compiled YAML here, in containers")
    verb.add_argument("--root", type=Path, default=Path("build/kubeflow"), help="folder for Kubeflow's artifacts")
    verb.add_argument("--run", help="the run's id; default: a new one")
    verb = verbs.add_parser("submit", parents=[pipeline, server], help="start a run on a cluster")
    verb.add_argument("--experiment", default="hymunet")
    verb.add_argument("--name", help="of the run; default: pipeline and time")
    verb.add_argument("--wait", action="store_true", help="follow the run; exit code 0 only when it succeeded")
    verb = verbs.add_parser("schedule", parents=[pipeline, server], help="start a run again and again")
    verb.add_argument("--experiment", default="hymunet")
    verb.add_argument("--name", required=True)
    verb.add_argument("--cron", required=True, help='six fields with seconds, in UTC: "0 0 3 * * 1"')
    verb = verbs.add_parser("status", parents=[server], help="a run's steps")
    verb.add_argument("run")
    verb.add_argument("--wait", action="store_true")
    verb = verbs.add_parser("fetch", parents=[remote], help="bring a run's lock, parameters and outputs home")
    verb.add_argument("run")
    verb.add_argument("--force", action="store_true", help="overwrite params.yaml and dvc.lock even if not committed")
    verb = verbs.add_parser(
        "check", parents=[remote, server], help="say what a cluster lacks of what the settings name"
    )
    verb.add_argument("--context", help="of the kubeconfig; default: its current one, or the pod's own cluster")
    return main


def main(argv: list[str] | None = None) -> int:
    by_line()
    args = parser().parse_args(argv)
    return globals()[args.verb.replace("-", "_")](args)


def _compiled(args: argparse.Namespace, output: Path, for_cluster: bool = False) -> Path:
    from hymunet.overrides import pair
    from pipelines import settings

    require_folder(output.parent)
    images = dict(pair(text) for text in args.image)
    chosen = settings.load(args.settings).with_images(images)
    if not args.allow_tags:
        chosen.require_content_addresses()
    if for_cluster:
        chosen.require_reachable_from_a_cluster()
    COMPILERS[args.pipeline](args, chosen, output)
    return output


def _training(args: argparse.Namespace, chosen: "Settings", output: Path) -> None:
    from pipelines import parameters
    from pipelines.training import compile_pipeline

    compile_pipeline(chosen, parameters.content(args.params, args.profile, args.overrides), output)


def _study(args: argparse.Namespace, chosen: "Settings", output: Path) -> None:
    from hymunet.study import plan
    from pipelines.study import compile_study
    from pipelines.study_text import packed

    if args.profile:
        raise ValueError(f"--profile {args.profile} does not go with --pipeline study: its file names its base")
    cells = plan.load(args.study, args.overrides).chosen(args.only)
    compile_study(chosen, packed(args.study, args.overrides), cells, args.parallel, output)


def _predict(args: argparse.Namespace, chosen: "Settings", output: Path) -> None:
    from pipelines.predict import compile_predict

    names = ("model", "source", "target", "save", "reference")
    compile_predict(chosen, {name: getattr(args, name) for name in names}, output)


COMPILERS = {"training": _training, "study": _study, "predict": _predict}


def compile(args: argparse.Namespace) -> int:
    native = args.form == "pipelineversion"
    if native:
        _require_name(args.namespace)
    written = _compiled(args, args.output, for_cluster=native)
    if native:
        from hymunet.commit import git_commit
        from pipelines import manifest

        print(f"version {manifest.write(written, args.namespace, git_commit(Path()) or '')}")
    print(f"wrote {written}")
    return 0


def _require_name(namespace: str) -> None:
    from pipelines.kubernetes_names import name

    try:
        name(namespace)
    except ValueError as error:
        raise ValueError(f"--namespace {error}") from None


def run_local(args: argparse.Namespace) -> int:
    from pipelines.local import Stopped, run_local

    package = _compiled(args, args.root / "pipeline.yaml")
    try:
        return 0 if run_local(package, {}, args.root, args.run) else 1
    except Stopped as why:
        print(
            f"pipelines: stopped by {why}; the same command, as another run, goes on with what the store holds",
            file=sys.stderr,
        )
        return 128 + why.number


def _cluster(args: argparse.Namespace) -> Any:
    from pipelines.cluster import Cluster

    return Cluster.connect(args.host, args.namespace, args.auth)


def _account(args: argparse.Namespace) -> str | None:
    from pipelines import settings

    return settings.load(args.settings).service_account


def submit(args: argparse.Namespace) -> int:
    package = _compiled(args, Path("build/pipeline.yaml"), for_cluster=True)
    cluster = _cluster(args)
    run = cluster.submit(package, args.experiment, args.name, _account(args))
    print(f"run {run}")
    return cluster.follow(run) if args.wait else 0


def schedule(args: argparse.Namespace) -> int:
    package = _compiled(args, Path("build/pipeline.yaml"), for_cluster=True)
    cluster = _cluster(args)
    print(f"recurring run {cluster.schedule(package, args.experiment, args.name, args.cron, _account(args))}")
    return 0


def status(args: argparse.Namespace) -> int:
    cluster = _cluster(args)
    return cluster.follow(args.run) if args.wait else cluster.show(args.run)


def fetch(args: argparse.Namespace) -> int:
    from pipelines import settings
    from pipelines.fetch import fetch

    chosen = settings.load(args.settings)
    for name, value in chosen.environment.items():  # the store's address, unless it has another one from here
        os.environ.setdefault(name, value)
    fetch(args.run, chosen.dvc_remote, force=args.force)
    return 0


def check(args: argparse.Namespace) -> int:
    from pipelines import settings
    from pipelines.check import check_cluster, connect

    chosen = settings.load(args.settings)
    chosen.check()
    return check_cluster(chosen, connect(args.context), args.namespace or "default")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        said = in_words(error) if isinstance(error, OSError) else str(error)
        print(f"pipelines: {without_secrets(said)}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if not (line := extras.missing(error, "pipelines")):
            raise
        print(f"pipelines: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("pipelines: interrupted", file=sys.stderr)
        sys.exit(130)
