#!/bin/bash
# The story at the end of registry.md, on real images: bash docs/tell_registry.sh MIRROR SUMS > transcript.txt
# MIRROR: a folder with the archives of ISIC 2018 Task 1; SUMS: data.isic2018.sums for it (docs/data.md). It works in
# build/registry, on a clone of the last commit; what it prepared stays in build/registry-cache. Ends with an error where a
# decision is another one than the story's.
set -euo pipefail
mirror=$(realpath "$1")
images=(-S "data.isic2018.mirror=$mirror" -S "data.isic2018.sums=$2")
place=build/registry
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=release GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=release@example.org
export MLFLOW_DISABLE_TELEMETRY=true NO_ALBUMENTATIONS_UPDATE=1 DVC_NO_ANALYTICS=1
unset MLFLOW_TRACKING_URI MLFLOW_REGISTRY_URI

told() { # EXIT COMMAND...: the command with what it says, which must end with this code
  local expected=$1 code=0
  shift
  printf '\n$ %s\n' "$*"
  "$@" || code=$?
  [ "$code" = "$expected" ] || { echo "ended with $code, and the story says $expected" >&2; exit 1; }
}
quietly() { "$@" >>steps.log 2>&1 || { tail -20 steps.log >&2; exit 1; }; }
trained() { # CHANGES...: a model by these parameters, committed, trained, tested and registered
  quietly hymunet profile paper "${images[@]}" "$@" -S train.workers=0
  git commit --quiet --all --allow-empty --message "$*"
  quietly dvc repro
  registered
}
registered() { grep "^register: " steps.log | tail -1; }
champion() { [ "$(hymunet models show --json | python -c 'import json, sys; print(json.load(sys.stdin)["version"])')" = "$1" ]; }

rm -rf $place
git clone --quiet . $place
find hymunet -name '*.so' -print0 | xargs -0 cp --parents -t $place # what setup compiled
cd $place
export PYTHONPATH=$PWD
dvc cache dir --local ../registry-cache
echo steps.log >>.git/info/exclude

# A narrow U-Net at 96 pixels, then a narrower one that was hardly trained.
small=(-S model.name=unet -S prepare.image_size=96 -S train.precision=float32)
trained "${small[@]}" -S 'model.size=[8, 16, 32, 64]' -S train.epochs=3
told 0 hymunet models promote
champion 1
trained "${small[@]}" -S 'model.size=[4, 8, 16]' -S train.epochs=1
told 1 hymunet models promote
champion 1

# The model that comes with the package: trained elsewhere on the same split, tested here at its 256 pixels.
quietly hymunet profile paper "${images[@]}"
git commit --quiet --all --message "The model of the package"
quietly dvc repro validate
rm artifacts/model/* # links into DVC's cache, which writing to them would change
cp hymunet/bundled/model.safetensors hymunet/bundled/model.json artifacts/model/
quietly python -m components.evaluate --training none # the curves there are of another model
quietly python -m components.register
registered
told 1 hymunet models promote
champion 1
told 0 hymunet models promote -S promote.max_slower=30 -S promote.max_larger=20 -S promote.reproducible=false
champion 3

told 0 hymunet models rollback --reason "too slow for the clinic's laptops"
champion 1
told 0 hymunet models list
told 0 hymunet models history
told 0 hymunet models verify
told 0 hymunet models page
