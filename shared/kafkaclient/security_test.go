package kafkaclient_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/secret"
	"marketdata/shared/testenv/certs"
)

const password = "hunter2-hunter2"

// broker is a broker that clients reach over TLS, with a user of each mechanism, and one who may only read the topic.
type broker struct {
	servers string
	ca      string
	client  certs.Pair
}

func startBroker(t *testing.T, mutual bool) broker {
	t.Helper()
	authority, err := certs.New("the test's authority")
	require.NoError(t, err)
	server, err := authority.Server(mutual)
	require.NoError(t, err)
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(2, "prices"), kfake.TLS(server)}
	if !mutual {
		opts = append(opts, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "plain", password),
			kfake.Superuser("SCRAM-SHA-256", "scram", password), kfake.Superuser("SCRAM-SHA-512", "scram", password),
			kfake.User("PLAIN", "reader", password, kfake.ACL{
				Resource: kmsg.ACLResourceTypeTopic, Name: "prices", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true,
			}),
			kfake.User("PLAIN", "nobody", password, kfake.ACL{
				Resource: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Pattern: kmsg.ACLResourcePatternTypeLiteral,
				Operation: kmsg.ACLOperationIdempotentWrite, Allow: true,
			}))
	}
	cluster, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client, err := authority.Issue("client")
	require.NoError(t, err)
	return broker{strings.Join(cluster.ListenAddrs(), ","), string(authority.PEM), client}
}

func (b broker) config(properties map[string]string) kafkaclient.Config {
	c := kafkaclient.At(b.servers)
	c.Properties["security.protocol"], c.Properties["ssl.ca.pem"] = "SASL_SSL", secret.Value(b.ca)
	for name, value := range properties {
		c.Properties[name] = secret.Value(value)
	}
	return c
}

func user(mechanism, name string) map[string]string {
	return map[string]string{"sasl.mechanism": mechanism, "sasl.username": name, "sasl.password": password}
}

func with(properties map[string]string, more ...string) map[string]string {
	all := maps.Clone(properties)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// logs collects log lines. Safe for concurrent use.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

func produceAndRead(t *testing.T, c kafkaclient.Config) {
	t.Helper()
	require.NoError(t, c.Validate())
	var out logs
	p := kafkaclient.NewProducer(c, out.logger())
	defer p.Close(time.Second)
	require.NoError(t, p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Key: []byte("k"), Value: []byte("v")}))
	require.NoError(t, p.Check("prices")(t.Context()))
	r := kafkaclient.NewReader(c, out.logger())
	defer r.Close()
	require.NoError(t, r.Check("prices")(t.Context()))
	require.Eventually(t, func() bool { // on one of two partitions
		for partition := range int32(2) {
			got, err := r.Read(t.Context(), kafkaclient.Place{Topic: "prices", Partition: partition})
			if err == nil {
				require.Equal(t, "v", string(got.Value))
				return true
			}
			require.Equal(t, fault.CodeRecordGone, fault.CodeOf(err))
		}
		return false
	}, 5*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{""}, out.lines(), "nothing to report")
}

func TestSecuredBrokers(t *testing.T) {
	t.Parallel()
	for name, properties := range map[string]map[string]string{
		"PLAIN": user("PLAIN", "plain"), "SCRAM-SHA-256": user("SCRAM-SHA-256", "scram"), "SCRAM-SHA-512": user("SCRAM-SHA-512", "scram"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, false)
			produceAndRead(t, b.config(properties))
		})
	}
	t.Run("mutual TLS", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, true)
		produceAndRead(t, b.config(map[string]string{
			"security.protocol": "SSL", "ssl.certificate.pem": string(b.client.Certificate), "ssl.key.pem": string(b.client.Key),
		}))
	})
}

// A client that cannot use the brokers says why: once in the log, and in the error of its check. It never says a password.
func TestARefusedClientNamesTheReason(t *testing.T) {
	t.Parallel()
	b, mutual := startBroker(t, false), startBroker(t, true)
	other, err := certs.New("another authority")
	require.NoError(t, err)
	stranger, err := other.Issue("client")
	require.NoError(t, err)
	plain := user("PLAIN", "plain")
	for _, row := range []struct {
		name   string
		config kafkaclient.Config
		want   string // in librdkafka's words
		code   kafka.ErrorCode
	}{
		{"wrong password", b.config(with(plain, "sasl.password", "wrong-"+password)), "authentication", 0},
		{"unknown user", b.config(user("SCRAM-SHA-512", "somebody")), "authentication", 0},
		{"another mechanism", b.config(user("SCRAM-SHA-512", "plain")), "authentication", 0},
		{"wrong CA", b.config(with(plain, "ssl.ca.pem", string(other.PEM))), "certificate", kafka.ErrSsl},
		{"no TLS", b.config(with(plain, "security.protocol", "SASL_PLAINTEXT")), "", 0},
		{"no client certificate", mutual.config(map[string]string{"security.protocol": "SSL"}), "certificate", 0},
		{"client certificate of another authority", mutual.config(map[string]string{
			"security.protocol": "SSL", "ssl.certificate.pem": string(stranger.Certificate), "ssl.key.pem": string(stranger.Key),
		}), "", 0},
		{"topic not allowed", b.config(user("PLAIN", "nobody")), "Topic authorization failed", kafka.ErrTopicAuthorizationFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, row.config.Validate())
			for client, check := range map[string]func(log *slog.Logger) (func(context.Context) error, func()){
				"producer": func(log *slog.Logger) (func(context.Context) error, func()) {
					p := kafkaclient.NewProducer(row.config, log)
					return p.Check("prices"), func() { p.Close(0) }
				},
				"reader": func(log *slog.Logger) (func(context.Context) error, func()) {
					r := kafkaclient.NewReader(row.config, log)
					return r.Check("prices"), r.Close
				},
			} {
				t.Run(client, func(t *testing.T) {
					t.Parallel()
					var out logs
					ping, stop := check(out.logger())
					defer stop()
					var err error
					for _, wait := range []time.Duration{700 * time.Millisecond, 100 * time.Millisecond} {
						ctx, cancel := context.WithTimeout(t.Context(), wait)
						err = ping(ctx)
						cancel()
						require.Equal(t, fault.Unavailable, fault.KindOf(err))
					}
					require.Contains(t, strings.ToLower(err.Error()), strings.ToLower(row.want))
					lines := out.lines()
					require.Len(t, lines, 1, "%v", lines)
					require.Contains(t, lines[0], `"level":"WARN","msg":"kafka cannot be used"`)
					if row.code != 0 {
						require.Contains(t, lines[0], `"code":"`+row.code.String()+`"`)
					}
					require.NotContains(t, lines[0]+err.Error(), password)
				})
			}
		})
	}
}

// oidc returns the settings of a client that gets its tokens from an endpoint.
func oidc(endpoint string) kafkaclient.Config {
	c := kafkaclient.At("127.0.0.1:1") // without a token nobody connects
	for name, value := range map[string]string{
		"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc",
		"sasl.oauthbearer.token.endpoint.url": endpoint, "sasl.oauthbearer.client.id": "client", "sasl.oauthbearer.client.secret": password,
	} {
		c.Properties[name] = secret.Value(value)
	}
	return c
}

// A client that gets no token says why: once in the log, without its secret. Apache Kafka takes the token of one that does, see
// local/apachekafka.
func TestATokenThatIsRefused(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"the secret is not %s"}`, secret)
	}))
	t.Cleanup(endpoint.Close)
	config := oidc(endpoint.URL)
	require.NoError(t, config.Validate())
	var out logs
	p := kafkaclient.NewProducer(config, out.logger())
	defer p.Close(0)
	var err error
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		err = p.Check("prices")(ctx)
		cancel()
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	}
	require.ErrorContains(t, err, "invalid_client")
	lines := out.lines()
	require.Len(t, lines, 1, "%v", lines)
	require.Contains(t, lines[0], "invalid_client")
	require.NotContains(t, lines[0]+err.Error(), password)
}

// A token endpoint that does not answer does not delay the start of a program.
func TestATokenEndpointThatHangs(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // takes connections, and is silent
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	config := oidc("http://" + l.Addr().String())
	began := time.Now()
	require.NoError(t, config.Validate())
	require.Less(t, time.Since(began), time.Second)
}

// A client that may read a topic, but not write it, loses nothing: the error is transient.
func TestAWriteThatIsNotAllowedIsTransient(t *testing.T) {
	t.Parallel()
	b := startBroker(t, false)
	var out logs
	p := kafkaclient.NewProducer(b.config(user("PLAIN", "reader")), out.logger())
	defer p.Close(0)
	err := p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte("v")})
	require.Equal(t, fault.CodeBrokerUnavailable, fault.CodeOf(err))
	require.ErrorContains(t, err, "authorization failed")
}

// A client that was refused works once the broker takes it, and says so once.
func TestARefusedClientRecovers(t *testing.T) {
	t.Parallel()
	first, err := certs.New("the first authority")
	require.NoError(t, err)
	wrong, err := first.Server(false)
	require.NoError(t, err)
	second, err := certs.New("the second authority")
	require.NoError(t, err)
	right, err := second.Server(false)
	require.NoError(t, err)
	current, mu := wrong, sync.Mutex{}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "prices"), kfake.TLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			return current, nil
		},
	}))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	c := kafkaclient.At(strings.Join(cluster.ListenAddrs(), ","))
	c.Properties["security.protocol"], c.Properties["ssl.ca.pem"] = "SSL", secret.Value(second.PEM)
	var out logs
	p := kafkaclient.NewProducer(c, out.logger())
	defer p.Close(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.Error(t, p.Check("prices")(ctx))
	done := make(chan error, 1)
	go func() { done <- p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte("v")}) }()
	mu.Lock()
	current = right
	mu.Unlock()
	require.NoError(t, <-done, "what was queued meanwhile arrives")
	lines := out.lines()
	require.Len(t, lines, 2)
	require.Contains(t, lines[1], "kafka can be used again")
}

// An idempotent producer that may not write has failed for good, in librdkafka. Ours works once it may.
func TestAProducerThatFailedForGoodRecovers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, false)
	admin, err := kafka.NewAdminClient(b.config(user("PLAIN", "plain")).Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(t, err)
	defer admin.Close()
	var out logs
	p := kafkaclient.NewProducer(b.config(user("PLAIN", "reader")), out.logger())
	defer p.Close(time.Second)
	record := kafkaclient.Record{Topic: "prices", Value: []byte("v")}
	require.ErrorContains(t, p.Produce(t.Context(), record), "Cluster authorization failed")
	for _, allowed := range []kafka.ACLBinding{
		{Type: kafka.ResourceBroker, Name: "kafka-cluster", Operation: kafka.ACLOperationIdempotentWrite},
		{Type: kafka.ResourceTopic, Name: "prices", Operation: kafka.ACLOperationWrite},
	} {
		allowed.ResourcePatternType, allowed.Principal, allowed.Host = kafka.ResourcePatternTypeLiteral, "User:reader", "*"
		allowed.PermissionType = kafka.ACLPermissionTypeAllow
		results, err := admin.CreateACLs(t.Context(), kafka.ACLBindings{allowed})
		require.NoError(t, err)
		require.Equal(t, kafka.ErrNoError, results[0].Error.Code())
	}
	require.Eventually(t, func() bool { return p.Produce(t.Context(), record) == nil }, 10*time.Second, 100*time.Millisecond)
	lines := out.lines()
	require.Contains(t, lines[len(lines)-1], "kafka can be used again")
}
