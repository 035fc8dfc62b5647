//go:build apache

package apachekafka_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/local/apachekafka"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/secret"
	"marketdata/shared/testenv"
)

// start starts a broker with a topic, "prices".
func start(t *testing.T) *apachekafka.Broker {
	t.Helper()
	cache, err := filepath.Abs("../../.local/cache")
	require.NoError(t, err)
	b, err := apachekafka.Start(t.Context(), apachekafka.Options{
		Dir: t.TempDir(), Cache: cache, Say: func(s string) { t.Log(s) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { b.Stop(context.WithoutCancel(t.Context())) })
	admin, err := kafka.NewAdminClient(b.Plain.Map(kafka.ConfigMap{"enable.metrics.push": false}))
	require.NoError(t, err)
	defer admin.Close()
	_, err = admin.CreateTopics(t.Context(), []kafka.TopicSpecification{{Topic: "prices", NumPartitions: 1, ReplicationFactor: 1}})
	require.NoError(t, err)
	return b
}

// The real thing takes our clients by every mechanism, and refuses a user who may do nothing.
func TestEveryListener(t *testing.T) {
	t.Parallel()
	b := start(t)
	endpoint := newTokenEndpoint(t)
	silent := slog.New(slog.DiscardHandler)
	for name, config := range map[string]kafkaclient.Config{
		"plain": b.Plain, "PLAIN": b.SASL("PLAIN", "marketdata"), "SCRAM-SHA-256": b.SASL("SCRAM-SHA-256", "marketdata"),
		"SCRAM-SHA-512": b.SASL("SCRAM-SHA-512", "marketdata"), "mutual TLS": b.MutualTLS(), "OAUTHBEARER": endpoint.client(b, "marketdata", clientSecret),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, config.Validate())
			p := kafkaclient.NewProducer(config, silent)
			defer p.Close(time.Second)
			require.NoError(t, p.Produce(t.Context(), kafkaclient.Record{Topic: "prices", Value: []byte(name)}))
		})
	}
	for name, row := range map[string]struct {
		config kafkaclient.Config
		want   string
	}{
		"stranger": {b.SASL("SCRAM-SHA-512", "stranger"), "authorization failed"}, "unknown user": {b.SASL("PLAIN", "nobody"), "authentication"},
		"stranger's token": {endpoint.client(b, "stranger", clientSecret), "authorization failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := kafkaclient.NewProducer(row.config, silent)
			defer p.Close(0)
			require.Eventually(t, func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				err := p.Check("prices")(ctx)
				return err != nil && strings.Contains(err.Error(), row.want)
			}, 20*time.Second, 10*time.Millisecond)
		})
	}
	t.Run("a built program", func(t *testing.T) { t.Parallel(); builtProgramUsesTokens(t, b) })
	t.Run("a secret that is refused", func(t *testing.T) { t.Parallel(); tokenRefused(t, b) })
}

const clientSecret = "hunter2-hunter2"

// tokenEndpoint gives out tokens, over TLS, to every client that knows the secret.
type tokenEndpoint struct {
	*httptest.Server
	secret atomic.Value
}

func newTokenEndpoint(t *testing.T) *tokenEndpoint {
	t.Helper()
	e := &tokenEndpoint{}
	e.secret.Store(clientSecret)
	e.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, password, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		if r.FormValue("grant_type") != "client_credentials" || password != e.secret.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s is not the secret of %s"}`, password, id)
			return
		}
		part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
		now := time.Now().Unix()
		token := part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, id, now, now+300)) + "."
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":300}`, token)
	}))
	t.Cleanup(e.Close)
	return e
}

// client returns the settings of a client of the broker with tokens of this endpoint.
func (e *tokenEndpoint) client(b *apachekafka.Broker, id, password string) kafkaclient.Config {
	c := b.OIDC(e.URL, id, password)
	c.Properties["https.ca.pem"] = secret.Value(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}))
	return c
}

// The static program that is shipped gets its tokens, too: librdkafka has an HTTP client of its own.
func builtProgramUsesTokens(t *testing.T, b *apachekafka.Broker) {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' puts the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test KAFKA=apache', which builds the binaries first")
	config := newTokenEndpoint(t).client(b, "marketdata", clientSecret)
	program := testenv.StartProgram(t, "get-latest", filepath.Join(bin, "get-latest"), append(config.Environ(),
		"PRICE_EVENTS_TOPIC=prices", "DATABASE_URL=postgres://127.0.0.1:1/x", "REDIS_URL=redis://127.0.0.1:1")...)
	require.Eventually(t, func() bool {
		resp, err := http.Get(program.URL + "readyz?verbose")
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read whole
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return strings.Contains(string(body), `"kafka":"ok"`)
	}, 20*time.Second, 100*time.Millisecond)
}

// A client whose secret is refused says why: once in the log, without the secret. It works once the secret is right.
func tokenRefused(t *testing.T, b *apachekafka.Broker) {
	t.Helper()
	endpoint := newTokenEndpoint(t)
	endpoint.secret.Store("another")
	config := endpoint.client(b, "marketdata", clientSecret)
	require.NoError(t, config.Validate())
	var log bytes.Buffer
	p := kafkaclient.NewProducer(config, slog.New(slog.NewTextHandler(&log, nil)))
	check := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return p.Check("prices")(ctx)
	}
	var err error
	for range 3 {
		err = check()
		require.Error(t, err)
	}
	require.ErrorContains(t, err, "invalid_client")
	endpoint.secret.Store(clientSecret)
	require.Eventually(t, func() bool { return check() == nil }, 30*time.Second, 100*time.Millisecond)
	p.Close(time.Second)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 2, log.String())
	require.Contains(t, lines[0], "invalid_client")
	require.Contains(t, lines[1], "kafka can be used again")
	require.NotContains(t, log.String()+err.Error(), clientSecret)
}
