package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	sdk "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	otel "go.opentelemetry.io/otel/trace"

	"marketdata/shared/secret"
)

// Config says whether and where to export. The SDK itself reads OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
// OTEL_TRACES_SAMPLER_ARG, and the variables of its queue (OTEL_BSP_…).
type Config struct {
	Endpoint       string       `envconfig:"OTEL_EXPORTER_OTLP_ENDPOINT"`        // OTLP/HTTP, without the path /v1/traces; empty: no tracing
	TracesEndpoint string       `envconfig:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"` // the same with its path; wins
	Headers        secret.Value `envconfig:"OTEL_EXPORTER_OTLP_HEADERS"`         // name=value,…; values are URL-encoded
	TimeoutMillis  int          `envconfig:"OTEL_EXPORTER_OTLP_TIMEOUT" default:"10000"`
	Exporter       string       `envconfig:"OTEL_TRACES_EXPORTER" default:"otlp"`
	Disabled       bool         `envconfig:"OTEL_SDK_DISABLED"`
}

// Validate reports all faults at once, in the order of the fields, without values, which may hold secrets.
func (c Config) Validate() error {
	_, badHeaders := parseHeaders(string(c.Headers))
	var timeout, exporter error
	if c.TimeoutMillis < 0 {
		timeout = errors.New("OTEL_EXPORTER_OTLP_TIMEOUT is less than 0")
	}
	if c.Exporter != "" && c.Exporter != "otlp" && c.Exporter != "none" {
		exporter = errors.New("OTEL_TRACES_EXPORTER: unknown exporter (one of otlp, none)")
	}
	return errors.Join(checkURL("OTEL_EXPORTER_OTLP_ENDPOINT", c.Endpoint), checkURL("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.TracesEndpoint),
		badHeaders, timeout, exporter)
}

func checkURL(variable, value string) error {
	if u, err := url.Parse(value); value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("%s is not an http or https URL", variable)
	}
	return nil
}

// url returns where spans go, empty if tracing is off.
func (c Config) url() string {
	switch {
	case c.Disabled || c.Exporter == "none":
		return ""
	case c.TracesEndpoint != "":
		return c.TracesEndpoint
	case c.Endpoint != "":
		return strings.TrimSuffix(c.Endpoint, "/") + "/v1/traces"
	}
	return ""
}

func parseHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for _, pair := range strings.Split(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !found || !isToken(name) || err != nil || strings.ContainsFunc(value, isControl) {
			return headers, errors.New("OTEL_EXPORTER_OTLP_HEADERS is not a list of name=value, separated by commas")
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// isToken reports the name of a header (RFC 9110 section 5.6.2). net/http sends no request with another one.
func isToken(s string) bool {
	other := func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	}
	return s != "" && !strings.ContainsFunc(s, other)
}

func isControl(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

// Tracing records and exports spans. Safe for concurrent use. nil is valid, and records nothing.
type Tracing struct{ provider *sdktrace.TracerProvider }

// Open starts tracing for a process, and returns nil if the environment does not ask for it. Spans wait for their export in a queue of
// OTEL_BSP_MAX_QUEUE_SIZE; when that is full, because the endpoint is slow or down, further ones are dropped, and nobody waits.
// service is the default of OTEL_SERVICE_NAME. Close it after use.
func Open(service string, c Config, log *slog.Logger) *Tracing {
	if c.url() == "" {
		return nil
	}
	sdk.SetErrorHandler(&failures{log: log, now: time.Now})
	sdk.SetLogger(logr.Discard()) // it writes plain text to stderr
	return newTracing(service, sdktrace.WithBatcher(newEndpoint(c)))
}

// mostLinks is the size of the largest batch, so that it links to all of its callers. The SDK's own limit is 128.
const mostLinks = 200

func newTracing(service string, export sdktrace.TracerProviderOption) *Tracing {
	// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last and win. An attribute that cannot be read is left out.
	about, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", service), attribute.String("service.instance.id", uuid.NewString()),
	), resource.WithFromEnv())
	if err != nil {
		sdk.Handle(err)
	}
	return &Tracing{sdktrace.NewTracerProvider(export, sdktrace.WithResource(about), sdktrace.WithRawSpanLimits(limits()))}
}

func limits() sdktrace.SpanLimits {
	l := sdktrace.NewSpanLimits()
	l.LinkCountLimit = max(l.LinkCountLimit, mostLinks)
	return l
}

// Start begins the span of a request or an event that comes in. It continues the trace of traceparent; without a valid one, a new trace
// begins. The returned context carries the trace even if it is not sampled, see [Header].
func (t *Tracing) Start(ctx context.Context, kind Kind, traceparent, operation, target string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	if parent, ok := parse(traceparent); ok {
		ctx = otel.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx, span := t.provider.Tracer(scope).Start(ctx, nameOf(operation, target), otel.WithSpanKind(kind))
	return ctx, recorded(span)
}

// Close exports what is left for at most the given time, and stops. Spans that end later are dropped.
func (t *Tracing) Close(wait time.Duration) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		sdk.Handle(err)
	}
}

// failuresEvery is the least time between two log lines about spans that could not be exported.
const failuresEvery = time.Minute

// failures logs the SDK's errors.
type failures struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	logged time.Time
	more   int // since then
}

// Handle logs an error, or counts it if one was logged within the last minute.
func (f *failures) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.more++; f.now().Sub(f.logged) < failuresEvery {
		return
	}
	f.log.Warn("could not export traces", "err", err, "errors", f.more)
	f.logged, f.more = f.now(), 0
}
