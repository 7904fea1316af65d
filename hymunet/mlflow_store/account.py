"""As whom MLflow's client asks a server that has accounts."""


def account() -> str | None:
    """The name in MLFLOW_TRACKING_USERNAME, or in ~/.mlflow/credentials; None where neither says one."""
    from mlflow.utils.credentials import read_mlflow_creds

    return read_mlflow_creds().username or None
