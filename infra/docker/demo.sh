#!/usr/bin/env bash
# The demo as Kubeflow would run it, on this machine: images, stores, and the compiled pipeline in containers.
# Needs a container engine with compose, and the extra `pipelines`. The stores' secrets are drawn once and kept in build/.
# BUILD_OPTIONS: more options for `docker build`; COMPOSE_FILE: compose files in place of ours, as compose reads it.
set -euo pipefail
cd "$(dirname "$0")/../.."
export COMPOSE_FILE=${COMPOSE_FILE:-infra/docker/compose.yaml}

drawn=build/kubeflow/secrets.env
if [ ! -f "$drawn" ]; then
  mkdir -p "$(dirname "$drawn")"
  (umask 077 && for name in POSTGRES_PASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    echo "$name=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"
  done >"$drawn")
fi
set -a && . "$drawn" && set +a

commit=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
for target in cpu data; do
  # shellcheck disable=SC2086 # several options
  docker build -f infra/docker/Dockerfile --target "$target" --build-arg COMMIT="$commit" ${BUILD_OPTIONS:-} \
    -t "hymunet:$target" .
done
docker compose up --build --wait
python -m pipelines run-local --profile demo --allow-tags --root build/kubeflow
echo "MLflow: http://127.0.0.1:5000 (stop with: docker compose --env-file $drawn -f infra/docker/compose.yaml down)"
