"""infra/terraform as far as it can be read: what must be there is, and what a role may is named."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TERRAFORM = ROOT / "infra/terraform"
ENVIRONMENTS = ("staging", "production")


def plain(content: Any) -> Any:
    """What python-hcl2 read, without its quotes and its own marks."""
    if isinstance(content, dict):
        return {plain(key): plain(value) for key, value in content.items() if key != "__is_block__"}
    if isinstance(content, list):
        return [plain(one) for one in content]
    return content[1:-1] if isinstance(content, str) and re.fullmatch(r'".*"', content, re.DOTALL) else content


def read(file: Path) -> dict[str, Any]:
    return plain(pytest.importorskip("hcl2").loads(file.read_text(encoding="utf-8")))


def blocks(kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Resources or data of the module by type and name."""
    found = {}
    for file in (TERRAFORM / "modules/environment").glob("*.tf"):
        for block in read(file).get(kind, []):
            for type_, named in block.items():
                found |= {(type_, name): content for name, content in named.items()}
    return found


@pytest.mark.parametrize("file", sorted(TERRAFORM.rglob("*.tf*")), ids=lambda file: file.name)
def test_every_file_is_hcl(file):
    assert read(file)


def test_the_bucket_is_encrypted_versioned_private_and_kept():
    resources = blocks("resource")
    assert resources["aws_s3_bucket", "store"]["lifecycle"] == [{"prevent_destroy": True}]
    assert resources["aws_s3_bucket_versioning", "store"]["versioning_configuration"] == [{"status": "Enabled"}]
    [rule] = resources["aws_s3_bucket_server_side_encryption_configuration", "store"]["rule"]
    assert rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == "aws:kms"
    assert resources["aws_kms_key", "bucket"]["enable_key_rotation"] is True
    block = resources["aws_s3_bucket_public_access_block", "store"]
    assert [value for key, value in block.items() if key != "bucket"] == [True] * 4
    image = resources["aws_ecr_repository", "image"]
    assert (image["image_tag_mutability"], image["encryption_configuration"][0]["encryption_type"]) == (
        "IMMUTABLE",
        "KMS",
    )


def test_the_rules_are_those_of_kubernetes():
    variables = {name: one for block in read_variables() for name, one in block.items()}
    days = {
        "${var.checkpoint_days}": variables["checkpoint_days"]["default"],
        "${var.replaced_days}": variables["replaced_days"]["default"],
    }
    ours = {}
    for rule in blocks("resource")["aws_s3_bucket_lifecycle_configuration", "store"]["rule"]:
        names = {
            "expiration": ("Expiration", "days", "Days"),
            "noncurrent_version_expiration": ("NoncurrentVersionExpiration", "noncurrent_days", "NoncurrentDays"),
            "abort_incomplete_multipart_upload": (
                "AbortIncompleteMultipartUpload",
                "days_after_initiation",
                "DaysAfterInitiation",
            ),
        }
        entry = {"ID": rule["id"], "Status": rule["status"], "Filter": {"Prefix": rule["filter"][0]["prefix"]}}
        for key, (name, field, other) in names.items():
            if key in rule:
                value = rule[key][0][field]
                entry[name] = {other: days.get(value, value)}
        ours[rule["id"]] = entry
    theirs = json.loads((ROOT / "infra/kubernetes/base/lifecycle.json").read_text(encoding="utf-8"))["Rules"]
    assert ours == {rule["ID"]: rule for rule in theirs}


def read_variables():
    return read(TERRAFORM / "modules/environment/variables.tf")["variable"]


def test_no_role_may_everything():
    documents = {name: one for (type_, name), one in blocks("data").items() if type_ == "aws_iam_policy_document"}
    assert len(documents) == 5
    for name, document in documents.items():
        for statement in document["statement"]:
            if statement.get("effect") == "Deny":
                continue
            assert not [action for action in statement["actions"] if "*" in action], name
            if statement.get("resources") == ["*"]:
                assert statement["actions"] == ["ecr:GetAuthorizationToken"], name
            for who in statement.get("principals", []):
                assert "*" not in who["identifiers"], name
    allowed = str([one for name, one in documents.items() if name != "encrypted_connections"])
    for action in ("DeleteBucket", "PutBucketPolicy", "PutLifecycle", "DeleteObjectVersion", "iam:"):
        assert action not in allowed


def test_pods_become_roles_by_the_accounts_that_there_are():
    pods = read(TERRAFORM / "modules/environment/roles.tf")["locals"][0]["pods"]
    accounts = (ROOT / "infra/kubernetes/base/accounts.yaml").read_text(encoding="utf-8")
    for subject in pods.values():
        _, kind, namespace, name = subject.split(":")
        assert kind == "serviceaccount"
        assert f"metadata: {{name: {name}, namespace: {namespace}}}" in accounts


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_names_itself_and_shares_no_bucket(environment):
    main = read(TERRAFORM / f"environments/{environment}/main.tf")
    assert main["module"][0]["environment"]["environment"] == environment
    buckets = {read(TERRAFORM / f"environments/{one}/terraform.tfvars")["bucket"] for one in ENVIRONMENTS}
    assert len(buckets) == len(ENVIRONMENTS)
