"""What MLflow's client is told by its environment variables, wherever the user has not said otherwise."""

import logging
import os

# A server whose artifacts lie in S3 would hand its clients presigned addresses of the store, as it calls it itself:
# a name of its own network, which a workstation does not know and a cluster's network policy refuses.
THROUGH_THE_SERVER = {
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def adopt(retries: int, seconds: int) -> None:
    """For this process. retries: of a request that failed; seconds: that an answer may take.

    MLflow logs the traceback of what its database refuses, and raises that besides: whoever asked tells it in a line.
    """
    bounds = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    for name, value in {**bounds, **QUIET, **THROUGH_THE_SERVER}.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
