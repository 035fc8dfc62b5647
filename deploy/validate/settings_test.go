package validate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// The variables reach the functions unchanged, secrets in a Secret, the others in a ConfigMap, but not those of the platform and of the
// local runtime.
func TestVariables(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{job: []string{"Complete"}, env: map[string]string{"LOG_LEVEL": "debug", "PORT": "1", "HOST": "laptop", "GATEWAY_ADDR": "x", "FINNHUB_API_KEY": ""}})
	require.False(t, i.failed, i.err)
	objects := i.applied(t)
	require.Equal(t, secrets, texts(of[*corev1.Secret](objects)[0]))
	maps := of[*corev1.ConfigMap](objects)
	require.Len(t, maps, 2)
	for _, m := range maps {
		if !strings.HasPrefix(m.Name, "marketdata-defaults-") {
			require.Equal(t, map[string]string{"KAFKA_BOOTSTRAP_SERVERS": "k1:9093,k2:9093", "LOG_LEVEL": "debug"}, m.Data)
		}
	}
	for _, s := range of[*kafkaSource](objects) {
		require.Equal(t, []string{"k1:9093", "k2:9093"}, s.Spec.BootstrapServers)
	}
	require.Equal(t, []string{"k1:9093", "k2:9093"}, of[*kafkaSink](objects)[0].Spec.BootstrapServers)
}

// Other names of topics reach the functions, the sources and the sink.
func TestTopics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env                 map[string]string
		events, deadLetters string
	}{
		"both": {map[string]string{"PRICE_EVENTS_TOPIC": "acme.prices", "DEAD_LETTER_TOPIC": "acme.poison"}, "acme.prices", "acme.poison"},
		"one":  {map[string]string{"PRICE_EVENTS_TOPIC": "acme.prices"}, "acme.prices", "price-events-dlq"},
		"none": {nil, "price-events", "price-events-dlq"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, cluster{job: []string{"Complete"}, env: c.env})
			require.False(t, i.failed, i.err)
			objects := i.applied(t)
			for _, m := range of[*corev1.ConfigMap](objects) {
				if !strings.HasPrefix(m.Name, "marketdata-defaults-") {
					require.Subset(t, m.Data, c.env)
				}
			}
			sources := of[*kafkaSource](objects)
			require.Len(t, sources, 2)
			for _, s := range sources {
				want := map[string]string{"price-events": c.events, "price-events-dlq": c.deadLetters}[s.Name]
				require.Equal(t, []string{want}, s.Spec.Topics)
				require.Equal(t, want, s.Spec.CloudEventOverrides.Extensions["kafkatopic"])
			}
			require.Equal(t, c.deadLetters, of[*kafkaSink](objects)[0].Spec.Topic)
		})
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  map[string]string
		want string // prefix of all images
	}{
		"on the nodes":  {nil, "dev.local/"},
		"in a registry": {map[string]string{"REGISTRY": "registry.example.com:5000/acme"}, "registry.example.com:5000/acme/"},
		"in kind":       {map[string]string{"REGISTRY": "kind.local", "OVERLAY": "knative/overlays/local-kind"}, "kind.local/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, cluster{job: []string{"Complete"}, env: c.env, args: []string{"local"}})
			require.False(t, i.failed, i.err)
			for _, s := range of[*servingv1.Service](i.applied(t)) {
				require.Equal(t, c.want+s.Name+":local", s.Spec.Template.Spec.Containers[0].Image)
			}
			created := slices.IndexFunc(i.calls, func(c call) bool { return c.Program == "kubectl" && c.Args[0] == "create" })
			job := of[*batchv1.Job](parse(t, i.calls[created].File))[0]
			require.Equal(t, c.want+"migrate:local", job.Spec.Template.Spec.Containers[0].Image)
		})
	}
}

// One set of variables secures functions, sources and sink, from one Secret whose name changes with its content.
func TestSecuredKafka(t *testing.T) {
	t.Parallel()
	const pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	sasl := map[string]string{
		"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "ada", "KAFKA_SASL_PASSWORD": `secret6 "$'`,
	}
	withCA := maps.Clone(sasl)
	withCA["KAFKA_SSL_CA_PEM"] = pem
	for name, c := range map[string]struct {
		env  map[string]string
		keys map[string]string // of the Secret
		refs []string          // of a source's net
	}{
		"user and password": {
			sasl,
			map[string]string{"protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "user": "ada", "password": `secret6 "$'`},
			[]string{"password", "sasl.mechanism", "user"},
		},
		"a private CA": {
			withCA,
			map[string]string{"protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "user": "ada", "password": `secret6 "$'`, "ca.crt": strings.TrimSpace(pem)},
			[]string{"ca.crt", "password", "sasl.mechanism", "user"},
		},
		"a client certificate": {
			map[string]string{"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTIFICATE_PEM": pem, "KAFKA_SSL_KEY_PEM": "secret7", "KAFKA_SSL_CA_PEM": pem},
			map[string]string{"protocol": "SSL", "user.crt": strings.TrimSpace(pem), "user.key": "secret7", "ca.crt": strings.TrimSpace(pem)},
			[]string{"ca.crt", "user.crt", "user.key"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, cluster{job: []string{"Complete"}, env: c.env})
			require.False(t, i.failed, i.err)
			objects := i.applied(t)
			secret := of[*corev1.Secret](objects)[0]
			require.Regexp(t, "^kafka-auth-[a-z0-9]{10}$", secret.Name)
			got := map[string]string{}
			for key, value := range secret.Data {
				got[key] = strings.TrimSpace(string(value))
			}
			require.Equal(t, c.keys, got)
			require.Equal(t, secret.Name, of[*kafkaSink](objects)[0].Spec.Auth.Secret.Ref.Name)
			for _, s := range of[*kafkaSource](objects) {
				n := s.Spec.Net
				require.True(t, n.TLS.Enable)
				var refs []string
				for _, value := range []secretValue{n.SASL.Type, n.SASL.User, n.SASL.Password, n.TLS.CACert, n.TLS.Cert, n.TLS.Key} {
					if value.SecretKeyRef != nil {
						require.Equal(t, secret.Name, value.SecretKeyRef.Name)
						refs = append(refs, value.SecretKeyRef.Key)
					}
				}
				require.ElementsMatch(t, c.refs, refs)
			}
			for _, s := range of[*servingv1.Service](objects) {
				variables := map[string]string{}
				for _, v := range s.Spec.Template.Spec.Containers[0].Env[1:] { // the first is the database's: see users_test.go
					require.Equal(t, secret.Name, v.ValueFrom.SecretKeyRef.Name)
					if value, ok := secret.Data[v.ValueFrom.SecretKeyRef.Key]; ok {
						variables[v.Name] = string(value)
					} else {
						require.True(t, *v.ValueFrom.SecretKeyRef.Optional, v.Name)
					}
				}
				require.Equal(t, c.env, variables)
			}
			for _, call := range i.calls {
				require.NotRegexp(t, "secret[1-9]", call.String())
			}
		})
	}
}

func TestIncompleteSettingsTouchNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cluster cluster
		want    string
	}{
		"no database": {cluster{env: map[string]string{"DATABASE_URL": ""}}, "DATABASE_URL"},
		"no operator": {cluster{env: map[string]string{"DLQ_TOKENS": ""}}, "DLQ_TOKEN or DLQ_TOKENS"},
		"no password": {
			cluster{env: map[string]string{"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "PLAIN", "KAFKA_SASL_USERNAME": "ada"}},
			"KAFKA_SASL_PASSWORD",
		},
		"tokens":              {cluster{env: map[string]string{"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}}, "get no tokens"},
		"an unknown protocol": {cluster{env: map[string]string{"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}}, "SASL_SSL or SSL"},
		"a local stack":       {cluster{env: map[string]string{"LOCAL_STACK": "/home/ada/.local"}}, "local stack"},
		"no such overlay":     {cluster{env: map[string]string{"OVERLAY": "knative/overlays/none"}}, "knative/overlays/none"},
		"no tag":              {cluster{args: []string{"--dry-run"}}, "usage"},
		"an unknown argument": {cluster{args: []string{"1.2.0", "--dry-run"}}, "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, c.cluster)
			require.True(t, i.failed)
			require.Contains(t, i.err, c.want)
			require.Empty(t, i.calls)
			require.Empty(t, i.left)
		})
	}
}
