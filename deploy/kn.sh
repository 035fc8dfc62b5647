#!/bin/sh
# Installs or updates the whole system on a cluster with Knative Serving, Eventing and the Kafka extensions.
#   DATABASE_URL=… REDIS_URL=… KAFKA_BOOTSTRAP_SERVERS=… DLQ_TOKEN=… deploy/kn.sh [TAG]
# Requires kubectl; kn, if installed, prints a summary at the end. The Kafka topics must exist: see deploy/RUNBOOK.md.
set -eu
cd "$(dirname "$0")/.."
tag=${1:-latest}
: "${DATABASE_URL:?}" "${REDIS_URL:?}" "${KAFKA_BOOTSTRAP_SERVERS:?}" "${DLQ_TOKEN:?}"

kubectl apply -f knative/base/namespace.yaml
# Secrets are passed in a file, not as arguments, which other users of this machine can read.
secret=$(mktemp)
trap 'rm -f "$secret"' EXIT
printf 'DATABASE_URL=%s\nREDIS_URL=%s\nDLQ_TOKEN=%s\n' "$DATABASE_URL" "$REDIS_URL" "$DLQ_TOKEN" >"$secret"
kubectl -n marketdata create secret generic marketdata --from-env-file="$secret" --dry-run=client -o yaml | kubectl apply -f -
kubectl -n marketdata create configmap marketdata --from-literal=KAFKA_BOOTSTRAP_SERVERS="$KAFKA_BOOTSTRAP_SERVERS" --dry-run=client -o yaml | kubectl apply -f -

# The schema goes first: the running version works with the schema of the next one.
job=$(sed "s|marketdata/migrate:latest|marketdata/migrate:$tag|" deploy/migrate-job.yaml | kubectl create -f - -o name)
kubectl -n marketdata wait --for=condition=complete --timeout=10m "$job"

kubectl kustomize knative/base |
	sed -e "s|\(image: marketdata/[a-z-]*\):latest|\1:$tag|" -e "s|kafka-bootstrap.kafka:9092|$KAFKA_BOOTSTRAP_SERVERS|" |
	kubectl apply -f -
kubectl -n marketdata wait --for=condition=Ready --timeout=5m ksvc --all
kubectl -n marketdata wait --for=condition=Ready --timeout=5m kafkasource,kafkasink,pingsource --all
if command -v kn >/dev/null; then kn -n marketdata service list; fi
