#!/usr/bin/env bash
# Applies overlays/workstation to a cluster of its own, in containers on this machine (kind), and asks it what no rendered file can tell: that the pods
# are admitted and start with a read-only root, that the steps' namespace reaches the API server, and MLflow by its name as no other does, that a backup is made.
# The cluster is removed at the end, KEEP=1 leaves it. Needs docker, kind (0.24 or newer, whose network enforces policies), kubectl.
set -euo pipefail
cd "$(dirname "$0")/../.."
cluster=hymunet-try registry=hymunet-registry
export KUBECONFIG=${TMPDIR:-/tmp}/$cluster.kubeconfig
[ -n "${KEEP:-}" ] || trap 'kind delete cluster --name $cluster' EXIT

docker build -q -f infra/docker/Dockerfile --target tracking -t hymunet:tracking .
kind create cluster --name $cluster --wait 120s
kind load docker-image --name $cluster hymunet:tracking

kubectl create namespace kubeflow # Kubeflow itself is not needed here: one policy lies in it
for namespace in hymunet $registry; do
  kubectl create namespace $namespace
  kubectl -n $namespace create secret generic hymunet --from-literal=AWS_ACCESS_KEY_ID=try --from-literal=AWS_SECRET_ACCESS_KEY="$(openssl rand -hex 12)"
done
kubectl -n $registry create secret generic mlflow-database --from-literal=password="$(openssl rand -hex 12)"
api=$(kubectl -n default get endpointslices kubernetes -o 'jsonpath={.endpoints[0].addresses[0]}')
kubectl kustomize infra/kubernetes/overlays/workstation | sed "s#192\.0\.2\.1/32#$api/32#" | kubectl apply --server-side --force-conflicts -f -
kubectl -n $registry rollout status statefulset/postgres --timeout=300s
kubectl -n $registry rollout status deployment/mlflow --timeout=300s

# ask NAMESPACE: what MLflow answers to a pod there, as its experiments' number.
ask() {
  kubectl -n "$1" run ask --rm -i --quiet --restart=Never --image=hymunet:tracking --image-pull-policy=Never --command -- python -c '
import json, urllib.request
address = "http://mlflow.hymunet-registry.svc:5000/api/2.0/mlflow/experiments/search?max_results=10"
print(len(json.load(urllib.request.urlopen(address, timeout=10))["experiments"]))'
}
[ "$(ask hymunet)" -ge 1 ]
! ask default || { echo "a namespace that no policy names reaches MLflow" >&2; exit 1; }

kubectl -n hymunet run reach --rm -i --quiet --restart=Never --image=hymunet:tracking --image-pull-policy=Never --command -- python -c '
import socket
socket.create_connection(("kubernetes.default.svc", 443), 10).close()'

kubectl -n $registry create job try-backup --from cronjob/backup
kubectl -n $registry wait --for=condition=complete job/try-backup --timeout=180s
kubectl -n $registry logs job/try-backup
