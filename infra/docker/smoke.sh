# Every entry of the image answers, the compiled parts load, and nothing of another image slipped in.
set -eu
for step in "$@"; do python -m "components.$step" --help >/dev/null; done
python -m pipelines.step --help >/dev/null
python -c "
import ctypes
from hymunet.data.prepare import png
from hymunet.ops import cpu
ctypes.CDLL(str(png.LIBRARY))
assert cpu.unavailable('cpu') is None, cpu.unavailable('cpu')
"
python -c "
import importlib.util, sys
found = [name for name in ('kfp', 'great_expectations') if importlib.util.find_spec(name)]
assert found == (['great_expectations'] if 'validate' in sys.argv[1:] else []), found
" "$@"
