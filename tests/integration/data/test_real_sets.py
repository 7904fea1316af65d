"""All of ISIC 2018 Task 1 and of Kvasir-SEG from an S3 server, through the four data steps as programs.

    python -m pytest tests/integration/data/test_real_sets.py -m slow -s

prints what docs/data.md says of them.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hymunet import params, profiles
from hymunet.data.acquire.published import sums_sha256
from hymunet.data.acquire.sources import SOURCES
from hymunet.data.acquire.transfer import file_sha256
from tests.support.servers import S3Server
from tests.support.training_data import ROOT, isic_folder

EXPECTED = {
    "isic2018": {"train": 2075, "validation": 259, "test": 260},
    "kvasir_seg": {"train": 800, "validation": 100, "test": 100},
}
PROFILES = {"isic2018": "paper", "kvasir_seg": "kvasir"}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("source", EXPECTED)
def test_every_pair_passes_from_an_s3_server(source: str, s3_server: S3Server, tmp_path: Path) -> None:
    folder = isic_folder()
    names = [archive.name for archive in SOURCES[source].archives]
    if folder is None or not all((folder / name).exists() for name in names):
        pytest.skip(f"no {names[0]}: name its folder with HYMUNET_ISIC_DIR")
    bucket = source.replace("_", "-")
    s3_server.create_bucket(bucket)
    for name in names:
        s3_server.client().upload_file(str(folder / name), bucket, f"archives/{name}")
    content = params.read_yaml(ROOT / "profiles/paper.yaml")
    profiles.lay_over(content, params.read_yaml(ROOT / f"profiles/{PROFILES[source]}.yaml"))
    sums = sums_sha256({name: file_sha256(folder / name) for name in names})
    content["data"][source] |= {"mirror": f"s3://{bucket}/archives", "sums": sums}
    (tmp_path / "params.yaml").write_text(json.dumps(content))  # JSON is YAML
    environment = {**os.environ, **s3_server.env, "PYTHONPATH": str(ROOT)}
    for step in ("download", "prepare", "split", "validate"):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", f"components.{step}"], cwd=tmp_path, env=environment, check=True)
        print(f"{source} {step}: {time.perf_counter() - start:.0f} s")
    split, validation = (
        json.loads((tmp_path / name).read_text())
        for name in ("data/split/split.json", "reports/validation/validation.json")
    )
    print(json.dumps({"split": split, "validation": validation}, indent=2))
    assert split["sizes"] == EXPECTED[source]
    assert (split["torn_groups"], validation["success"]) == (0, True)
    prepared = json.loads((tmp_path / "data/prepared/prepare.json").read_text())
    assert (prepared["images"], prepared["dropped"]) == (sum(EXPECTED[source].values()), {})
