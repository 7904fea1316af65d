"""Gives the bucket its lifecycle rules, those of lifecycle.json beside this file, and says what it then has."""

import json
import os
from pathlib import Path

import boto3

rules = json.loads((Path(__file__).parent / "lifecycle.json").read_text())
bucket, store = os.environ["HYMUNET_BUCKET"], boto3.client("s3")
store.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
kept = store.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
missing = {rule["ID"] for rule in rules["Rules"]} - {rule["ID"] for rule in kept}
if missing:
    raise SystemExit(f"s3://{bucket}: the store did not keep the rules {', '.join(sorted(missing))}")
print(f"s3://{bucket}: {', '.join(rule['ID'] for rule in kept)}")
