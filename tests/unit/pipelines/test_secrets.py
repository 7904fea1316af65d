"""No secret in anything that the project keeps or compiles; the scan itself is tried on planted ones."""

import subprocess
from pathlib import Path

import pytest

from tests.support.secrets import find

ROOT = Path(__file__).resolve().parents[3]
# Addresses with made-up passwords, to see that they are not shown.
INVENTED = {
    "tests/integration/training/test_delivery_states.py",
    "tests/unit/registry/test_places.py",
    "tests/unit/registry/test_register.py",
}
PLANTED = [
    "key = AKIA" + "IOSFODNN7EXAMPLE",
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "token: eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.x",
    "ghp_" + "a1" * 18,
    "postgresql://mlflow:" + "hunter2@db:5432/mlflow",
    "AWS_SECRET_ACCESS_KEY=" + "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
]


@pytest.mark.parametrize("text", PLANTED)
def test_a_planted_secret_is_found(text: str) -> None:
    assert find(f"some words\n{text}\nmore words")


def test_a_secret_in_use_is_found_by_its_value() -> None:
    assert find("log line with s3cr3t in it", ["s3cr3t"]) == ["the value of a secret in use"]
    assert find("log line without", ["s3cr3t"]) == []


def test_the_project_holds_none() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    texts = {name: (ROOT / name).read_text(errors="ignore") for name in listed if name and (ROOT / name).is_file()}
    texts = {name: text for name, text in texts.items() if name not in INVENTED}
    assert {name: found for name, text in texts.items() if (found := find(text))} == {}
