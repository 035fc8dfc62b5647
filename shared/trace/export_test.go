package trace

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/collector"
)

func TestTracingIsOffUnlessAnEndpointIsSet(t *testing.T) {
	t.Parallel()
	const endpoint = "http://127.0.0.1:1"
	for name, c := range map[string]Config{
		"no endpoint":      {Exporter: "otlp"},
		"SDK disabled":     {Endpoint: endpoint, Exporter: "otlp", Disabled: true},
		"another exporter": {TracesEndpoint: endpoint, Exporter: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.Validate())
			require.Nil(t, Open("x", c, slog.New(slog.DiscardHandler)))
		})
	}
}

func TestConfigReportsAllFaultsWithoutValues(t *testing.T) {
	t.Parallel()
	err := Config{Endpoint: "collector:4318", TracesEndpoint: "https://:password@/%", Headers: "password", TimeoutMillis: -1, Exporter: "zipkin"}.Validate()
	require.EqualError(t, err, "OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https URL\n"+
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not an http or https URL\nOTEL_EXPORTER_OTLP_HEADERS is not a list of name=value, separated by commas\n"+
		"OTEL_EXPORTER_OTLP_TIMEOUT is less than 0\nOTEL_TRACES_EXPORTER: unknown exporter (one of otlp, none)")
	require.NoError(t, Config{Endpoint: "http://localhost:4318", TracesEndpoint: "https://collector/v1/traces", Exporter: "otlp"}.Validate())
}

func TestStandardVariables(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want map[string]string // of the resource
		none bool
	}{
		"defaults":        {map[string]string{}, map[string]string{"service.name": "get-latest"}, false},
		"name":            {map[string]string{"OTEL_SERVICE_NAME": "prices"}, map[string]string{"service.name": "prices"}, false},
		"attributes":      {map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}, map[string]string{"deployment.environment.name": "test", "service.name": "get-latest"}, false},
		"sampler":         {map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, nil, true},
		"sampler's ratio": {map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := collector.Start(t)
			for variable, value := range c.env {
				t.Setenv(variable, value)
			}
			tracing := Open("get-latest", Config{Endpoint: endpoint.URL + "/", Headers: "authorization=Bearer%20x, b=c", Exporter: "otlp"}, slog.New(slog.DiscardHandler))
			_, span := tracing.Start(t.Context(), Server, "", "GET", "")
			span.End(nil)
			tracing.Close(10 * time.Second)
			if c.none {
				require.Empty(t, endpoint.Spans())
				return
			}
			require.Len(t, endpoint.Spans(), 1)
			require.Equal(t, "Bearer x", endpoint.Headers().Get("Authorization"))
			require.Subset(t, endpoint.Spans()[0].ResourceAttributes, c.want)
			require.Len(t, endpoint.Spans()[0].ResourceAttributes["service.instance.id"], 36)
		})
	}
}

// An endpoint that takes a request and never answers delays no span, and the end only for as long as it may.
func TestAnEndpointThatHangsDelaysNobody(t *testing.T) {
	hung, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hung <- struct{}{}; <-release }))
	defer server.Close()
	defer close(release)
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
	tracing := Open("x", Config{Endpoint: server.URL, TimeoutMillis: 10_000}, slog.New(slog.DiscardHandler))
	record := func() {
		_, span := tracing.Start(t.Context(), Server, "", "GET", "")
		span.End(nil)
	}
	for range 8 {
		record()
	}
	<-hung
	began := time.Now()
	for range 10_000 { // many times what the queue holds
		record()
	}
	require.Less(t, time.Since(began), 5*time.Second, "OTEL_EXPORTER_OTLP_TIMEOUT is 10 s")
	began = time.Now()
	tracing.Close(50 * time.Millisecond)
	require.Less(t, time.Since(began), 5*time.Second)
}

func TestFailuresAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := &failures{log: slog.New(slog.NewTextHandler(&out, nil)), now: time.Now}
		for range 61 { // two minutes
			f.Handle(errors.New("refused"))
			time.Sleep(2 * time.Second)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		require.Len(t, lines, 3)
		require.Contains(t, lines[0], "errors=1")
		require.Contains(t, lines[1], "errors=30")
		require.Contains(t, lines[2], "errors=30")
	})
}
