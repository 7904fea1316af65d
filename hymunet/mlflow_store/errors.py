"""What MLflow and the libraries beneath it raise, in one line, and whether another try may help."""

import html
import re

from hymunet import extras
from hymunet.addresses import without_secrets
from hymunet.mlflow_store.account import account

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
_SQLITE = re.compile(r"\(sqlite3\.\w+\) (?P<said>.*?)(?: \[SQL: |$)")
_READ_ONLY = "readonly database"
_NO_JSON = "was not in a valid JSON format"
_ANSWERED = re.compile(  # by what is no MLflow, or by one that failed; in MLflow's words and in those of urllib3
    r"failed with error code (?P<status>\d+) != 200\. Response body: '(?P<body>.*)'$"
    rf"|{_NO_JSON}\. Response body: '(?P<page>.*)'$|^INTERNAL_ERROR: Response: (?P<other>.*)$"
    r"|too many (?P<repeated>\d+) error responses"
)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>?", re.IGNORECASE)
LASTING = (ImportError, ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class Unavailable(ValueError, ConnectionError):
    """The registry did not answer, or failed, or is another program's for now: worth another try."""


def is_mlflow_s(error: Exception) -> bool:
    """Of MLflow or of what it stands on; anything else is a fault of this program or of its input."""
    package, *bases = [kind.__module__.partition(".")[0] for kind in type(error).__mro__]
    return package in BENEATH or "mlflow" in (package, *bases)  # by name: MLflow may be what is missing


def for_good(error: Exception) -> bool:
    """The same call would fail again: it was refused, or this machine lacks something."""
    if is_mlflow_s(error):
        refused = {getattr(error, "error_code", ""), type(error).__name__} & REFUSALS
        return bool(refused) or any(sign in str(error) for sign in (_NO_JSON, _READ_ONLY))
    return isinstance(error, LASTING) and not isinstance(error, ConnectionError)


def in_words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        package = PACKAGES.get(error.name or "", error.name)
        return extras.missing(error) or f"needs the package {error.name}; pip install {package}"
    said = " ".join(without_secrets(str(error)).split()).partition(_REFERENCE)[0]
    if any(text in said for text in NO_STORE):
        return "no address of a server or a database; name one, as http://mlflow.example:5000 or sqlite:///mlflow.db"
    if found := _SQLITE.search(said):
        remedy = "; may this user write to the file and to its folder?" if _READ_ONLY in found["said"] else ""
        return f"the database says: {found['said']}{remedy}"
    if found := _ANSWERED.search(said):
        status = found["status"] or found["repeated"] or ("200" if found["page"] is not None else "")
        return answered(status, found["body"] or found["page"] or found["other"] or "")
    if "Max retries exceeded" in said:
        return "no answer; is the address right, and are the server and its database up?"
    return said[:300] or type(error).__name__


def answered(status: str, said: str) -> str:
    """Who answered: the status, the first words without markup, the remedy."""
    text = html.unescape(_MARKUP.sub(" ", said[:10_000]))
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:100]
    remedy = "is this the address of an MLflow server?"
    if status in ("401", "403"):
        remedy = _refused(status, account())
    elif status == "429":
        remedy = "too many requests; try again later"
    elif status.startswith("5"):
        remedy = "the server is up and fails: its log says why; is its database up?"
    told = " ".join(part for part in (status, f'"{words}"' if words else "") if part)
    return f"answered with {told}; {remedy}"


def _refused(status: str, name: str | None) -> str:
    if name is None:
        return "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    if status == "401":
        return f'is "{name}" the name of an account there, and is its password right?'
    return f'"{name}" lacks a permission there: docs/registry.md, "A server with accounts"'
