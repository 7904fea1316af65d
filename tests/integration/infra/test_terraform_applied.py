"""infra/terraform by Terraform itself: valid, applied to an AWS endpoint on this machine; a second plan is empty."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.servers import HOST, Server, answers, free_port
from tests.unit.infra.test_terraform import ENVIRONMENTS, TERRAFORM

pytestmark = [pytest.mark.integration, pytest.mark.slow]
# The endpoint knows one address for all buckets, and no account.
LOCAL = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
"""


@pytest.fixture(scope="module")
def program():
    found = shutil.which("terraform") or shutil.which("tofu")
    if not found:
        pytest.skip("no terraform on this machine")
    return found


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    port = free_port()
    address = f"http://{HOST}:{port}"
    log = tmp_path_factory.mktemp("aws") / "moto.log"
    server = Server([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], lambda: answers(address), log)
    server.start()
    try:
        yield {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": address}
    finally:
        server.stop()


@pytest.fixture(params=ENVIRONMENTS)
def terraform(request, program, aws, tmp_path):
    folder = shutil.copytree(TERRAFORM, tmp_path / "terraform") / "environments" / request.param
    (folder / "local_override.tf").write_text(LOCAL)

    def run(*arguments, expected=0):
        environment = os.environ | aws | {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        done = subprocess.run(
            [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stderr if expected else done.stdout

    begun = subprocess.run([program, "init", "-input=false"], cwd=folder, capture_output=True, text=True, timeout=300)
    if begun.returncode:
        pytest.skip(f"the provider hashicorp/aws is not to be had here: {begun.stderr.strip()[-200:]}")
    return run


def test_files_are_formatted(program):
    subprocess.run([program, "fmt", "-check", "-recursive", str(TERRAFORM)], check=True, capture_output=True)


def test_it_is_applied_and_nothing_is_left_to_do(terraform, aws):
    import boto3

    assert "valid" in terraform("validate", "-no-color")
    terraform("apply", "-auto-approve", "-input=false", "-no-color")
    terraform("plan", "-detailed-exitcode", "-input=false", "-no-color")  # 2 were a change
    made = json.loads(terraform("output", "-json"))["environment"]["value"]
    local = {"endpoint_url": aws["AWS_ENDPOINT_URL"], "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    store, roles = (boto3.client(name, region_name="eu-central-1", **local) for name in ("s3", "iam"))
    assert store.get_bucket_versioning(Bucket=made["bucket"])["Status"] == "Enabled"
    encryption = store.get_bucket_encryption(Bucket=made["bucket"])["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert len(store.get_bucket_lifecycle_configuration(Bucket=made["bucket"])["Rules"]) == 3
    for name, arn in made["roles"].items():
        policy = roles.get_role_policy(RoleName=arn.rsplit("/", 1)[1], PolicyName="store")["PolicyDocument"]
        read = next(one for one in policy["Statement"] if one["Sid"] == "Read")["Resource"]
        assert ("mlflow/*" in str(read)) == (name != "steps")
    assert "prevent_destroy" in terraform("plan", "-destroy", "-input=false", "-no-color", expected=1)
