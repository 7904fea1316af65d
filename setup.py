"""Builds the C++ parts, where a compiler is found: the scan's CPU kernels, the PNG row filters, contours' distances.

Without a compiler the install goes on.
"""

from __future__ import annotations

import os
import platform
import runpy
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("hymunet/ops/csrc")
SCAN, PNG = "hymunet.ops._scan_cpu", "hymunet.data.prepare._png"
CONTOURS = "hymunet.evaluation._contours"
SINGLE = {  # parts of one file
    PNG: Path("hymunet/data/prepare/csrc/png.cpp"),
    CONTOURS: Path("hymunet/evaluation/csrc/contours.cpp"),
}
WITHOUT = {
    SCAN: "the CPU kernel of the selective scan is not built, the slow form will be used",
    PNG: "the PNG row filters are not built, OpenCV will decode the masks, more slowly",
    CONTOURS: "the distances between contours are not built, a k-d tree will find them, more slowly",
}
COMPILED = runpy.run_path("hymunet/compiled_parts.py")
FLAGS = shlex.split(
    "-O3 -std=c++17 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -fno-math-errno -fno-trapping-math -Wno-psabi"
)
X86_SETS = {
    "avx2": shlex.split("-mavx2 -mfma"),
    "avx512": shlex.split("-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512"),
}


def compilations(extension: str, machine: str) -> dict[str, list[str]]:
    """Object name -> arguments. The scan: its dispatcher, and its kernels for each instruction set of `machine`."""
    if extension in SINGLE:
        return {SINGLE[extension].stem: [str(SINGLE[extension])]}
    x86 = machine in ("x86_64", "AMD64")
    sets = {"generic": [], **(X86_SETS if x86 else {})}
    kernels = {isa: [*flags, f"-DHYMUNET_ISA={isa}", str(SOURCES / "kernels.cpp")] for isa, flags in sets.items()}
    return {"dispatch": [*(["-DHYMUNET_X86"] if x86 else []), str(SOURCES / "dispatch.cpp")], **kernels}


class BuildKernels(build_ext):
    """Shared libraries with a plain C ABI: they link neither torch nor Python, so any version of both can load them."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        try:
            self._build(ext)
        except (OSError, RuntimeError) as error:
            self.warn(f"{WITHOUT[ext.name]}: {error}")

    def _build(self, ext: Extension) -> None:
        work, target = Path(self.build_temp), Path(self.get_ext_fullpath(ext.name))
        work.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        jobs = [
            [*compiler, *FLAGS, "-c", *arguments, "-o", str(work / f"{name}.o")]
            for name, arguments in compilations(ext.name, platform.machine()).items()
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._call, jobs))
        objects = [*(job[-1] for job in jobs), self._mark(ext, compiler, work)]
        self._call([*compiler, "-shared", *objects, "-lpthread", "-o", str(target)])

    def _mark(self, ext: Extension, compiler: list[str], work: Path) -> str:
        """Object of the sources' hash, by which an installed part is told from sources that have changed since."""
        sha256 = COMPILED["sources_sha256"](Path(ext.sources[0]).parent)
        text, made = work / f"{ext.name}.mark.cpp", work / f"{ext.name}.mark.o"
        mark = f'"{COMPILED["MARK"].decode()}{sha256}"'
        text.write_text(
            'extern "C" __attribute__((visibility("default"))) const char hymunet_sources[];\n'
            f"const char hymunet_sources[] = {mark};\n"
        )
        self._call([*compiler, *FLAGS, "-c", str(text), "-o", str(made)])
        return str(made)

    def _call(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")


setup(
    ext_modules=[
        Extension(SCAN, [str(path) for path in sorted(SOURCES.iterdir())], optional=True),
        *(Extension(name, [str(source)], optional=True) for name, source in SINGLE.items()),
    ],
    cmdclass={"build_ext": BuildKernels},
)
