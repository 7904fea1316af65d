# Every entry of the image answers, the compiled parts load, and nothing of another image slipped in.
set -eu
for step in "$@"; do python -m "components.$step" --help >/dev/null; done
python -m pipelines.step --help >/dev/null
python -c "
import ctypes
from hymunet.data.prepare import png
from hymunet.evaluation import contours
from hymunet.ops import cpu
for part in (png, contours):
    ctypes.CDLL(str(part.LIBRARY))
assert cpu.unavailable('cpu') is None, cpu.unavailable('cpu')
"
# Triton compiles its launcher at the first kernel: it can here, without a GPU, or it cannot there.
if python -c "import sys, torch; sys.exit(torch.version.cuda is None)"; then
  TRITON_CACHE_DIR=$(mktemp -d) python -c "
from hymunet.ops import compilers
from triton.runtime.build import compile_module_from_src
source = '''
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, \"stub\"};
PyMODINIT_FUNC PyInit_stub(void) { return PyModule_Create(&definition); }
'''
compile_module_from_src(source, 'stub')
assert compilers.c_problem() is None, compilers.c_problem()
assert compilers.cpp_problem() is None, compilers.cpp_problem()
"
fi
python -c "
import importlib.util, sys
found = [name for name in ('kfp', 'great_expectations') if importlib.util.find_spec(name)]
assert found == (['great_expectations'] if 'validate' in sys.argv[1:] else []), found
" "$@"
