"""What MLflow and the libraries beneath it raise, in one line, and whether another try may help."""

from hymunet.addresses import without_secrets

BENEATH = {"boto3", "botocore", "requests", "sqlalchemy", "sqlite3", "urllib3"}  # whose errors MLflow lets through
REFUSALS = {  # what MLflow says no to; any other error may be gone at the next try
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NoSuchModuleError",  # SQLAlchemy's, for an address of a kind that it does not know
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
PACKAGES = {  # a driver's module -> the package that pip installs
    "MySQLdb": "mysqlclient",
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
}
NO_STORE = ("unsupported URI", "filesystem tracking backend")  # what MLflow says of a name without http://, of a folder
_REFERENCE = " (Background on this error at:"  # SQLAlchemy's, to its manual
LASTING = (ImportError, ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


def is_mlflow_s(error: Exception) -> bool:
    """Of MLflow or of what it stands on; anything else is a fault of this program or of its input."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) or type(error).__module__.partition(".")[0] in BENEATH


def for_good(error: Exception) -> bool:
    """The same call would fail again: it was refused, or this machine lacks something."""
    if is_mlflow_s(error):
        return bool({getattr(error, "error_code", ""), type(error).__name__} & REFUSALS)
    return isinstance(error, LASTING) and not isinstance(error, ConnectionError)


def in_words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}; pip install {PACKAGES.get(error.name or '', error.name)}"
    said = " ".join(without_secrets(str(error)).split()).partition(_REFERENCE)[0]
    if any(text in said for text in NO_STORE):
        return "no address of a server or a database; name one, as http://mlflow.example:5000 or sqlite:///mlflow.db"
    reason = said[:300] or type(error).__name__
    return "no answer; is the address right and the server up?" if "Max retries exceeded" in reason else reason
