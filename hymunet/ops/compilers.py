"""Can this machine compile what is compiled while a program runs: Triton's launchers (C), inductor's loops (C++)?

Both look for a compiler when the first kernel starts, deep in a training; an image without one is better known before.
The question is put by compiling a few lines, since a compiler without the C library's or Python's headers is none.
"""

import os
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

STUB = "#include <stdint.h>\n#include <Python.h>\nint stub(void) { return PY_MAJOR_VERSION; }\n"
LANGUAGES = {  # suffix: (name, variable of the environment, programs in the order of the search, what to install)
    ".c": ("C", "CC", ("gcc", "clang"), "gcc libc6-dev"),  # as triton.runtime.build
    ".cpp": ("C++", "CXX", ("g++", "clang++"), "g++"),  # as torch._inductor.config.cpp
}


def c_problem() -> str | None:
    """None where Triton can compile its launchers, else why not and what to do."""
    return _problem(".c", os.environ.get("CC"), os.environ.get("PATH"))


def cpp_problem() -> str | None:
    """None where torch.compile can build its loops for CPUs, else why not and what to do."""
    return _problem(".cpp", os.environ.get("CXX"), os.environ.get("PATH"))


@cache
def _problem(suffix: str, named: str | None, path: str | None) -> str | None:
    language, variable, programs, packages = LANGUAGES[suffix]
    remedy = f"install one (apt-get install {packages}), or name one in {variable}"
    compiler = named or next((found for name in programs if (found := shutil.which(name, path=path))), None)
    if compiler is None:
        return f"there is no {language} compiler; {remedy}"
    include = sysconfig.get_paths()["include"]
    with TemporaryDirectory() as folder:
        source = Path(folder, f"stub{suffix}")
        source.write_text(STUB, encoding="utf-8")
        command = [compiler, str(source), "-shared", "-fPIC", f"-I{include}", "-o", str(source.with_suffix(".so"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return f"the {language} compiler {compiler} cannot be run ({error.strerror}); {remedy}"
    if done.returncode == 0:
        return None
    lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
    reason = next((line for line in lines if "error" in line), lines[-1]).strip()
    return f"the {language} compiler {compiler} does not compile ({reason}); {remedy}, with Python's headers"
