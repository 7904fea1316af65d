"""Archives of compiled code: whole, signed, and never worth a training."""

from pathlib import Path

import pytest

from hymunet.training import compiled_code
from hymunet.training.checkpoint_store import Folder
from hymunet.training.compiled_code import CompiledCode

KEY = b"0123456789abcdef0123456789abcdef"
MADE = {"inductor/ab/kernel.so": b"\x7fELF" * 500, "inductor/fxgraph/x/y": b"graph", "triton/H/scan.cubin": b"cubin"}


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store")


class Machine:
    """A machine's own folders of compiled code, and a training's start and end on it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, store: Folder) -> None:
        self.folder, self.patch, self.store = folder, patch, store
        self.said: list[str] = []

    def starts(self, key: bytes = KEY, name: str = "code.tar.gz") -> CompiledCode:
        for part, variable in compiled_code.FOLDERS.items():
            self.patch.setenv(variable, str(self.folder / part))
        code = CompiledCode(self.store, name, f"s3://bucket/{name}", key, self.said.append)
        code.bring()
        return code

    def compiles(self, files: dict[str, bytes] = MADE) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.endswith(".so") else 0o644)

    def has(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Folder):
    return lambda name: Machine(tmp_path / name, monkeypatch, store)


def first_start(machine) -> Machine:
    first = machine("first")
    code = first.starts()
    first.compiles()
    code.keep()
    return first


def test_the_next_machine_has_what_the_first_one_made(machine, store) -> None:
    first = first_start(machine)
    assert first.said == [f"compiled code kept in s3://bucket/code.tar.gz for the next start ({_size(store)})"]
    second = machine("second")
    code = second.starts()
    assert second.has() == MADE
    assert (second.folder / "inductor/ab/kernel.so").stat().st_mode & 0o777 == 0o755
    before = store.read("code.tar.gz")
    code.keep()
    assert store.read("code.tar.gz") == before, "nothing was made, and it was written again"
    assert len(second.said) == 1
    assert second.said[0].startswith("compiled code of an earlier start brought from s3://bucket/code.tar.gz")


def _size(store: Folder) -> str:
    return f"{(len(store.read('code.tar.gz')) - compiled_code.SIGNATURE) / 1e6:.1f} MB"


def test_what_is_made_besides_is_added(machine) -> None:
    first_start(machine)
    second = machine("second")
    code = second.starts()
    second.compiles({"triton/other.cubin": b"other", "triton/other.lock": b"", "inductor/.x.12.tmp": b"half"})
    code.keep()
    third = machine("third")
    third.starts()
    assert third.has() == MADE | {"triton/other.cubin": b"other"}


def test_code_of_this_machine_s_other_trainings_stays_here(machine) -> None:
    first = machine("first")
    first.compiles({"inductor/of/another.so": b"another"})
    code = first.starts()
    first.compiles()
    code.keep()
    second = machine("second")
    second.starts()
    assert second.has() == MADE


def test_a_file_that_is_there_is_left_alone(machine) -> None:
    first_start(machine)
    second = machine("second")
    second.compiles({"triton/H/scan.cubin": b"cubin in use"})
    second.starts()
    assert second.has() == MADE | {"triton/H/scan.cubin": b"cubin in use"}


DAMAGED = {
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a byte changed": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "without its signature": lambda content: content[compiled_code.SIGNATURE :],
    "empty": lambda content: b"",
    "something else": lambda content: b"#!/bin/sh\nrm -rf /\n" * 20,
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_not_as_it_was_signed_is_not_unpacked_and_is_replaced(machine, store, caplog, change) -> None:
    first_start(machine)
    store.write("code.tar.gz", change(store.read("code.tar.gz")))
    second = machine("second")
    code = second.starts()
    assert second.has() == {}
    assert "s3://bucket/code.tar.gz: damaged, or not signed with this HYMUNET_COMPILE_CACHE_KEY" in caplog.text
    second.compiles()
    code.keep()
    third = machine("third")
    third.starts()
    assert third.has() == MADE


@pytest.mark.parametrize("name", ["code.tar.gz", "another.tar.gz"])
def test_another_key_s_archive_and_another_training_s_are_not_taken(machine, store, caplog, name) -> None:
    first_start(machine)
    store.write("another.tar.gz", store.read("code.tar.gz"))
    second = machine("second")
    second.starts(KEY if name == "another.tar.gz" else KEY[::-1], name)
    assert second.has() == {}
    assert f"s3://bucket/{name}: damaged, or not signed" in caplog.text


def test_a_store_that_is_away_costs_a_compilation_and_no_training(machine, store, caplog, monkeypatch) -> None:
    def away(*arguments: object) -> bytes:
        raise OSError("connection refused")

    first = machine("first")
    monkeypatch.setattr(store, "read", away)
    monkeypatch.setattr(store, "write", away)
    code = first.starts()
    first.compiles()
    code.keep()
    assert "compiled code cannot be read, it is made anew (connection refused)" in caplog.text
    assert "compiled code cannot be kept, the next start makes it anew (connection refused)" in caplog.text
