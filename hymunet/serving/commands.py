"""`hymunet serve` and `deploy`: options, and what is checked first. Heavy libraries are imported when they run."""

import argparse
import math

from hymunet import bundled, extras


def add_serve(serve: argparse.ArgumentParser) -> None:
    where = "a trained model's folder, models:/NAME@ALIAS or /VERSION, or bundled: the one in the package "
    where += f"({bundled.TRAINED} where there is one, else bundled); an alias is followed"
    serve.add_argument("--model", help=where)
    pinned = "of a folder or a version: serve no other weights than these"
    serve.add_argument("--weights-sha256", metavar="HASH", help=pinned)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (8000); 0 takes a free one")
    serve.add_argument("--queue", type=int, default=64, help="requests at once, beyond which it says 429 (64)")
    serve.add_argument("--batch", type=int, default=4, help="images that the model sees at once, at most (4)")
    serve.add_argument("--max-bytes", type=int, default=20 * 2**20, help="of an upload (20 MiB)")
    serve.add_argument("--max-pixels", type=int, default=50_000_000, help="of an image (50,000,000)")
    serve.add_argument("--upload-seconds", type=float, default=30, help="for an upload, then 408 (30)")
    serve.add_argument("--seconds", type=float, default=30, help="for an answer, then 503 (30)")
    serve.add_argument("--follow-seconds", type=float, default=10, help="between looks at a registry's alias (10)")
    serve.add_argument("--drain-seconds", type=float, default=5, help="of answering still after SIGTERM (5)")
    serve.set_defaults(run=run_serve)


def add_deploy(deploy: argparse.ArgumentParser) -> None:
    deploy.add_argument("--kserve", action="store_true", required=True, help="a KServe InferenceService, YAML")
    deploy.add_argument("--model", required=True, metavar="ADDRESS", help="models:/NAME@ALIAS or models:/NAME/VERSION")
    image = "an image with hymunet[serve,train], by its digest"
    deploy.add_argument("--image", required=True, metavar="REPOSITORY@sha256:DIGEST", help=image)
    deploy.add_argument("--name", default="hymunet", help="of the service (hymunet)")
    secret = "Kubernetes Secret whose entry `key` clients must send"
    deploy.add_argument("--key-secret", default="", metavar="SECRET", help=secret)
    deploy.set_defaults(run=run_deploy)


def run_serve(arguments: argparse.Namespace) -> None:
    arguments.model = arguments.model or bundled.default()
    _require_packages(arguments.model)
    if arguments.weights_sha256 and "@" in arguments.model:
        raise ValueError(f"--weights-sha256 does not go with {arguments.model}, which moves; name a version")

    from hymunet.registry.load import require_there
    from hymunet.serving.keys import configured
    from hymunet.serving.limits import Limits

    limits = Limits(**{field: getattr(arguments, field) for field in Limits.__dataclass_fields__})
    if not (0 < arguments.follow_seconds < math.inf and 0 <= arguments.drain_seconds < math.inf):
        raise ValueError("--follow-seconds must be above 0, --drain-seconds at least 0, both finite")
    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"--port {arguments.port} must be in 0..65535 (0: one that is free)")
    key = configured()
    require_there(arguments.model)

    from hymunet.serving.server import serve

    places = (arguments.host, arguments.port, arguments.follow_seconds, arguments.drain_seconds)
    serve(arguments.model, *places, limits, key, arguments.weights_sha256)


def run_deploy(arguments: argparse.Namespace) -> None:
    _require_packages(arguments.model)

    from hymunet.serving.deploy import kserve

    print(kserve(arguments.model, arguments.image, arguments.name, arguments.key_secret), end="")


def _require_packages(model: str) -> None:
    extras.require("serve", "fastapi", "PIL", "prometheus_client", "python_multipart", "uvicorn")
    if model.startswith("models:"):
        extras.require("serve,train", "mlflow")
