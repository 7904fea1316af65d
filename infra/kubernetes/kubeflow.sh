#!/usr/bin/env bash
# The demo by Kubeflow Pipelines, in a cluster of its own in containers on this machine (kind): Kubeflow's standalone installation, MLflow as
# overlays/workstation has it, and one run to its end. The cluster is removed at the end, KEEP=1 leaves it.
# Needs docker, kind (0.24 or newer), kubectl, git, 4 CPUs, 16 GiB, and the extra `pipelines`.
set -euo pipefail
cd "$(dirname "$0")/../.."
kubeflow=2.17.0 cluster=hymunet-kubeflow registry=hymunet-registry work=build/kind
export KUBECONFIG=${TMPDIR:-/tmp}/$cluster.kubeconfig
[ -n "${KEEP:-}" ] || trap 'kind delete cluster --name $cluster' EXIT
mkdir -p $work

commit=$(git describe --always --dirty --abbrev=40 --exclude '*')
for target in cpu data tracking; do
  docker build -q -f infra/docker/Dockerfile --target $target --build-arg COMMIT="$commit" -t hymunet:$target .
done
kind create cluster --name $cluster --wait 120s
kind load docker-image --name $cluster hymunet:cpu hymunet:data hymunet:tracking

manifests=github.com/kubeflow/pipelines/manifests/kustomize
kubectl apply -k "$manifests/cluster-scoped-resources?ref=$kubeflow"
kubectl wait --for=condition=established --timeout=60s crd/applications.app.k8s.io
kubectl apply -k "$manifests/env/platform-agnostic?ref=$kubeflow"
for name in seaweedfs mysql workflow-controller ml-pipeline; do
  kubectl -n kubeflow rollout status deployment/$name --timeout=900s
done

# Kubeflow's store, with its own keys, is everybody's store here.
key() { kubectl -n kubeflow get secret mlpipeline-minio-artifact -o "jsonpath={.data.$1}" | base64 -d; }
for namespace in hymunet $registry; do kubectl create namespace $namespace; done
for namespace in kubeflow hymunet $registry; do
  kubectl -n $namespace create secret generic hymunet \
    --from-literal=AWS_ACCESS_KEY_ID="$(key accesskey)" --from-literal=AWS_SECRET_ACCESS_KEY="$(key secretkey)"
done
kubectl -n $registry create secret generic mlflow-database --from-literal=password="$(openssl rand -hex 12)"
store=http://seaweedfs.kubeflow.svc:9000
cat >$work/bucket.yaml <<EOF
apiVersion: v1
kind: Pod
metadata: {name: bucket, namespace: kubeflow}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: hymunet:cpu
      envFrom: [{secretRef: {name: hymunet}}]
      env: [{name: AWS_ENDPOINT_URL, value: "$store"}, {name: AWS_DEFAULT_REGION, value: us-east-1}]
      command: [python, -c, "import boto3; boto3.client('s3').create_bucket(Bucket='hymunet')"]
EOF
kubectl apply -f $work/bucket.yaml
kubectl -n kubeflow wait --for=jsonpath='{.status.phase}'=Succeeded pod/bucket --timeout=180s
api=$(kubectl -n default get endpointslices kubernetes -o 'jsonpath={.endpoints[0].addresses[0]}')
kubectl kustomize infra/kubernetes/overlays/workstation | sed "s#192\.0\.2\.1/32#$api/32#" | kubectl apply --server-side --force-conflicts -f -
kubectl -n $registry rollout status statefulset/postgres --timeout=300s
kubectl -n $registry rollout status deployment/mlflow --timeout=300s

cat >$work/settings.yaml <<EOF
images: {cpu: "hymunet:cpu", data: "hymunet:data"}
dvc_remote: s3://hymunet/dvc
environment:
  MLFLOW_TRACKING_URI: http://mlflow.$registry.svc:5000
  AWS_ENDPOINT_URL: $store
  AWS_DEFAULT_REGION: us-east-1
  HYMUNET_CHECKPOINTS: s3://hymunet/checkpoints
secrets: [{name: hymunet, keys: [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]}]
most: {cpu: 2, memory: 6Gi, disk: 10Gi}
EOF
kubectl -n kubeflow port-forward service/ml-pipeline 8888 >$work/port-forward.log &
trap 'kill %1; [ -n "${KEEP:-}" ] || kind delete cluster --name $cluster' EXIT
for _ in $(seq 60); do curl -fs http://127.0.0.1:8888/apis/v2beta1/healthz >/dev/null && break || sleep 1; done
python -m pipelines check --settings $work/settings.yaml --namespace kubeflow --host http://127.0.0.1:8888
python -m pipelines submit --settings $work/settings.yaml --profile demo --allow-tags --host http://127.0.0.1:8888 --wait
