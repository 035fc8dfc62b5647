#!/bin/sh
# Installs or updates the whole system on a cluster with Knative Serving, Eventing and the Kafka extensions.
#
#   DATABASE_URL=… REDIS_URL=… KAFKA_BOOTSTRAP_SERVERS=… DLQ_TOKEN=… deploy/kn.sh [--dry-run] TAG
#
# Every variable of .env.example that is set reaches the functions, except for those of the local runtime. TAG is the tag of the images.
#   --dry-run   print what would be applied, without the values of Secrets. Needs no cluster.
#   REGISTRY    where the images are: ghcr.io/acme has ghcr.io/acme/poll:TAG. By default dev.local: the images are on the nodes already,
#               and Knative looks for none of that name in a registry (nor for those of kind.local).
#   OVERLAY     the folder with the manifests: by default knative/base, see knative/overlays. Images that it renames stay as they are.
#   GET_LATEST_DATABASE_URL, POLL_DATABASE_URL, COMPUTE_MA_DATABASE_URL, DLQ_INSPECTOR_DATABASE_URL
#               for one function: of a database user who may do what it needs and nothing else, see deploy/README.md. Users that do not
#               exist are made. If all four are set, DATABASE_URL is for the migrations alone.
#   MIGRATE_DATABASE_URL
#               for the migrations, if DATABASE_URL is that of a pooler or of a user who may not change the schema
#   KAFKA_SECURITY_PROTOCOL
#               SASL_SSL, with KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or SSL, with KAFKA_SSL_CERTIFICATE_PEM and
#               KAFKA_SSL_KEY_PEM; KAFKA_SSL_CA_PEM for a private CA. For functions, sources and sink: see knative/components/kafka-auth.
#
# Requires kubectl; kn, if installed, prints the summary at the end. The Kafka topics must exist, with the names in
# PRICE_EVENTS_TOPIC and DEAD_LETTER_TOPIC: see deploy/RUNBOOK.md.
set -eu
cd "$(dirname "$0")/.."

fail() {
	echo "kn.sh: $*" >&2
	exit 1
}
dry_run=
if [ "${1-}" = --dry-run ]; then
	dry_run=1
	shift
fi
[ $# -eq 1 ] || fail "usage: deploy/kn.sh [--dry-run] TAG"
tag=$1
registry=${REGISTRY:-dev.local}
overlay=${OVERLAY:-knative/base}
functions="get-latest poll compute-ma dlq-inspector"
[ -z "${LOCAL_STACK-}" ] || fail "this shell has the variables of a local stack: use another one"
: "${DATABASE_URL:?}" "${REDIS_URL:?}" "${KAFKA_BOOTSTRAP_SERVERS:?}"
[ -n "${DLQ_TOKEN-}${DLQ_TOKENS-}" ] || fail "set DLQ_TOKEN or DLQ_TOKENS"
[ -f "$overlay/kustomization.yaml" ] || fail "OVERLAY: there is no $overlay/kustomization.yaml"

# Values are passed in files, not in arguments, which other users of this machine can read.
umask 077
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
put() { # folder, name, value
	mkdir -p "$dir/$1"
	printf %s "$3" >"$dir/$1/$2"
}

put migrate DATABASE_URL "${MIGRATE_DATABASE_URL:-$DATABASE_URL}"
shared_url=
for function in $functions; do
	name=$(echo "$function" | tr a-z- A-Z_)_DATABASE_URL
	eval "value=\${$name-}"
	if [ -n "$value" ]; then
		put migrate "$name" "$value"
		put databases "$function" "$value"
	else
		shared_url=1
	fi
done
for name in $(sed -n '/^# The local runtime/q; s/^#\([A-Z0-9_]*\)=.*/\1/p' .env.example); do
	eval "value=\${$name-}"
	case $name in
	PORT | HOST) ;; # the platform's
	*_DATABASE_URL) ;; # above
	DATABASE_URL) [ -z "$shared_url" ] || put secret "$name" "$value" ;;
	KAFKA_SECURITY_PROTOCOL | KAFKA_SASL_MECHANISM | KAFKA_SASL_USERNAME | KAFKA_SASL_PASSWORD | KAFKA_SSL_*_PEM) ;; # below
	*_URL | *_KEY | *_KEYS | *_TOKEN | *_TOKENS | *_HEADERS | *PASSWORD* | *SECRET*) [ -z "$value" ] || put secret "$name" "$value" ;;
	*) [ -z "$value" ] || put config "$name" "$value" ;;
	esac
done

# Secret kafka-auth, in the form of Knative, and the components that use it
[ "${KAFKA_SASL_MECHANISM-}" != OAUTHBEARER ] || fail "KAFKA_SASL_MECHANISM: Knative's sources and sink get no tokens: see deploy/README.md"
case ${KAFKA_SECURITY_PROTOCOL-} in
"") components= ;;
SASL_SSL) components="kafka-auth" && : "${KAFKA_SASL_MECHANISM:?}" "${KAFKA_SASL_USERNAME:?}" "${KAFKA_SASL_PASSWORD:?}" ;;
SSL) components="kafka-auth kafka-mtls" && : "${KAFKA_SSL_CERTIFICATE_PEM:?}" "${KAFKA_SSL_KEY_PEM:?}" ;;
*) fail "KAFKA_SECURITY_PROTOCOL: $KAFKA_SECURITY_PROTOCOL (SASL_SSL or SSL)" ;;
esac
if [ -n "$components" ]; then
	[ -z "${KAFKA_SSL_CA_PEM-}" ] || components="$components kafka-ca"
	for pair in protocol=SECURITY_PROTOCOL sasl.mechanism=SASL_MECHANISM user=SASL_USERNAME password=SASL_PASSWORD \
		ca.crt=SSL_CA_PEM user.crt=SSL_CERTIFICATE_PEM user.key=SSL_KEY_PEM; do
		eval "value=\${KAFKA_${pair#*=}-}"
		[ -z "$value" ] || put kafka-auth "${pair%%=*}" "$value"
	done
fi

# The functions have the names of the topics in their ConfigMap, the sources and the sink in their manifests.
topics=
replace() { # kind, name, path, value
	topics="$topics
  - target: {kind: $1, name: $2}
    patch: '[{\"op\": \"replace\", \"path\": \"$3\", \"value\": \"$4\"}]'"
}
for pair in price-events=PRICE_EVENTS_TOPIC price-events-dlq=DEAD_LETTER_TOPIC; do
	eval "value=\${${pair#*=}-}"
	[ -n "$value" ] || continue
	replace KafkaSource "${pair%%=*}" /spec/topics/0 "$value"
	replace KafkaSource "${pair%%=*}" /spec/ceOverrides/extensions/kafkatopic "$value"
done
[ -z "${DEAD_LETTER_TOPIC-}" ] || replace KafkaSink price-events-dlq /spec/topic "$DEAD_LETTER_TOPIC"

# An overlay over the overlay. The generators append a hash of the content to the names, so that a changed value makes new revisions.
ln -s "$PWD" "$dir/repository"
cat >"$dir/kustomization.yaml" <<END
resources: [repository/$overlay]
components: [$([ -z "$components" ] || printf 'repository/knative/components/%s, ' $components)]
namespace: marketdata
sortOptions: {order: legacy} # ConfigMaps and Secrets before the Services that need them
secretGenerator:
  - {name: marketdata, files: [$(cd "$dir" && printf '%s, ' secret/*)]}
$([ ! -d "$dir/databases" ] || (cd "$dir" && printf '  - {name: databases, files: [%s]}' "$(printf '%s, ' databases/*)"))
$([ -z "$components" ] || (cd "$dir" && printf '  - {name: kafka-auth, files: [%s]}' "$(printf '%s, ' kafka-auth/*)"))
configMapGenerator:
  - {name: marketdata, files: [$(cd "$dir" && printf '%s, ' config/*)]}
patches:
  - target: {kind: KafkaSource|KafkaSink}
    patch: |-
      - op: replace
        path: /spec/bootstrapServers
        value: ["$(echo "$KAFKA_BOOTSTRAP_SERVERS" | sed 's/,/", "/g')"]$topics
images:
$(for name in $functions; do echo "  - {name: marketdata/$name, newName: $registry/$name, newTag: '$tag'}"; done)
END
kubectl kustomize "$dir" >"$dir/manifests.yaml"
kubectl -n marketdata create secret generic migrate --from-file="$dir/migrate" --dry-run=client -o yaml >"$dir/migrate.yaml"
sed "s|marketdata/migrate:latest|$registry/migrate:$tag|" deploy/migrate-job.yaml >"$dir/job.yaml"

if [ -n "$dry_run" ]; then
	for file in knative/base/namespace.yaml "$dir/migrate.yaml" "$dir/job.yaml" "$dir/manifests.yaml"; do
		echo ---
		cat "$file"
	done | awk '
		function show(  i, data) { # one document; the values of a Secret are on the lines of its keys, or indented below them
			for (i = 1; i <= n; i++) {
				if (line[i] !~ /^ /) data = secret && line[i] == "data:"
				if (data && line[i] ~ /^   /) continue
				if (data) sub(/: .*/, ": (hidden)", line[i])
				print line[i]
			}
			n = secret = 0
		}
		$0 == "---" { show() }
		$0 == "kind: Secret" { secret = 1 }
		{ line[++n] = $0 }
		END { show() }'
	exit
fi

# The schema goes first: the running version works with the schema of the next one. The job has its own Secret, so that the functions
# see no new value before the migration has succeeded with it.
kubectl apply -f knative/base/namespace.yaml
kubectl apply -f "$dir/migrate.yaml"
job=$(kubectl create -f "$dir/job.yaml" -o name)
echo "waiting for $job"
while true; do # the job ends by itself: it has a deadline
	ended=$(kubectl -n marketdata get "$job" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}')
	case $ended in
	*Complete*) break ;;
	*Failed*)
		kubectl -n marketdata logs -l "job-name=${job#*/}" --prefix --tail=50 || true
		kubectl -n marketdata get pods -l "job-name=${job#*/}" || true
		fail "the migration failed; the functions are unchanged"
		;;
	esac
	sleep 2
done

kubectl apply -f "$dir/manifests.yaml"
summary() {
	if command -v kn >/dev/null; then kn -n marketdata service list; else kubectl -n marketdata get ksvc; fi
}
if ! kubectl -n marketdata wait --for=condition=Ready --timeout=5m ksvc --all; then
	summary
	fail "not every function is ready; the previous revision of such a function still serves"
fi
kubectl -n marketdata wait --for=condition=Ready --timeout=5m kafkasource,kafkasink,pingsource --all
summary
