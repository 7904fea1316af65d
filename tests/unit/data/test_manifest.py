"""The manifest: what is written is what is read; the same rows give the same file; damage is refused."""

import hashlib
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hymunet.data.acquire.synthetic import draw
from hymunet.data.prepare.manifest import FIELDS, read_manifest, write_manifest
from hymunet.data.prepare.prepare import prepare
from tests.unit.data.test_prepare import encoded

VALUES = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    int: st.integers(0, 2**63 - 1),
    float: st.floats(0, 1),
    bool: st.booleans(),
}
ROW = st.fixed_dictionaries({name: VALUES[kind] for name, kind in FIELDS.items()})
ROWS = st.lists(ROW, min_size=1, max_size=8, unique_by=lambda row: row["id"]).map(
    lambda rows: sorted(rows, key=lambda row: row["id"])
)
in_one_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_one_folder
@given(ROWS)
def test_what_is_written_is_read(tmp_path, rows):
    write_manifest(rows, tmp_path / "manifest.parquet")
    found = read_manifest(tmp_path / "manifest.parquet")
    assert found == rows
    assert [list(row) for row in found] == [list(FIELDS)] * len(rows)


@in_one_folder
@given(ROWS)
def test_the_same_rows_are_the_same_bytes_however_their_keys_are_ordered(tmp_path, rows):
    for name, written in {"a": rows, "b": [dict(reversed(row.items())) for row in rows]}.items():
        write_manifest(written, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@in_one_folder
@given(ROWS, st.data())
def test_a_damaged_file_is_refused_or_harmless(tmp_path, rows, data):
    path = tmp_path / "manifest.parquet"
    write_manifest(rows, path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place:]
    path.write_bytes(content)
    try:
        assert read_manifest(path) == rows
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{path}: not a manifest of this version (")
        assert "\n" not in message


@pytest.mark.parametrize("ids", ["ba", "aa", "abdc", '"ab'[::-1]])
def test_rows_in_another_order_than_the_split_s_are_refused(ids, tmp_path):
    row = {name: {str: "x", int: 7, float: 0.25, bool: True}[kind] for name, kind in FIELDS.items()}
    write_manifest([row | {"id": id} for id in ids], tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match=r"in no order, or one stands twice\); run the prepare step again"):
        read_manifest(tmp_path / "manifest.parquet")


def test_every_cut_and_every_flip_of_the_rows_is_refused(tmp_path):
    path = tmp_path / "manifest.parquet"
    row = {name: {str: "ISIC_0000000", int: 7, float: 0.25, bool: True}[kind] for name, kind in FIELDS.items()}
    rows = [row | {"id": f"ISIC_{number:07}"} for number in range(50)]
    write_manifest(rows, path)
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little")
    for place in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:place])
        with pytest.raises(ValueError, match="not a manifest"):
            read_manifest(path)
    changed = 0
    for place in range(0, len(content) - 8 - footer, 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            changed += read_manifest(path) != rows
        except ValueError:
            continue
    assert changed == 0


def test_a_manifest_with_other_columns_is_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"], "width": [1]}), tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match=r"columns are id, width\); run the prepare step again"):
        read_manifest(tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match="no such file; run the prepare step first"):
        read_manifest(tmp_path / "other.parquet")


def test_it_does_not_depend_on_the_order_of_the_archive_and_names_the_files_by_their_hash(tmp_path):
    files = {}
    for index in range(9):
        for kind, pixels in zip(("images", "masks"), draw(index, 48, seed=2), strict=True):
            files[f"synthetic/{kind}/case_{index:05}.png"] = encoded(pixels)
    rng = np.random.default_rng(0)
    for attempt in range(3):
        raw = tmp_path / f"raw{attempt}"
        raw.mkdir()
        with zipfile.ZipFile(raw / "synthetic.zip", "w") as archive:
            for name in rng.permutation(sorted(files)):
                archive.writestr(str(name), files[name])
        (raw / "source.json").write_text(json.dumps({"source": "synthetic", "archives": [{"name": "synthetic.zip"}]}))
        prepare(raw, tmp_path / f"prepared{attempt}", 32, "stop", 1 + attempt)
    first, *others = ((tmp_path / f"prepared{attempt}/manifest.parquet").read_bytes() for attempt in range(3))
    assert others == [first, first]
    rows = read_manifest(tmp_path / "prepared0/manifest.parquet")
    assert [row["id"] for row in rows] == [f"case_{index:05}" for index in range(9)]
    for row in rows:
        for kind, column in (("images", "sha256_image"), ("masks", "sha256_mask")):
            assert row[column] == hashlib.sha256(files[f"synthetic/{kind}/{row['id']}.png"]).hexdigest()
