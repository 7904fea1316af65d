# Installs into the image at the locked versions. uv: pip takes ten times as long over the same lock.
set -eu
PYTHONPATH=/tools python3 -m uv pip install --system --no-cache --compile-bytecode -c /lists/constraints.txt \
  --find-links /wheels ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} "$@"
