package service

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"marketdata/shared/fault"
)

// observer surrounds the mux: request id, one log line and metrics for each request, problem documents for routes and
// methods that do not exist.
type observer struct {
	mux      *http.ServeMux
	log      *slog.Logger
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newObserver(mux *http.ServeMux, registry *prometheus.Registry, log *slog.Logger) *observer {
	o := &observer{
		mux: mux, log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Time to answer by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25},
		}, []string{"route"}),
	}
	registry.MustRegister(o.requests, o.seconds)
	return o
}

// request is what the layers of one request share.
type request struct {
	id          string
	traceparent string
	err         error
}

type requestKey struct{}

// RequestID is the id of the request that ctx belongs to: the client's X-Request-ID if usable, else one of ours.
func RequestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r.id
	}
	return ""
}

// Traceparent is the request's W3C trace context header, empty if it had none: events carry it on.
func Traceparent(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r.traceparent
	}
	return ""
}

// noteError keeps err for the request's log line: callers see no causes, logs do.
func noteError(ctx context.Context, err error) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.err = err
	}
}

var (
	usableID    = regexp.MustCompile(`^[A-Za-z0-9._:\-]{1,128}$`)
	usableTrace = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
	quiet       = map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /metrics": true, "GET /_/health": true, "GET /_/ready": true}
)

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	state := &request{id: r.Header.Get("X-Request-ID")}
	if !usableID.MatchString(state.id) {
		state.id = uuid.NewString()
	}
	if t := r.Header.Get("Traceparent"); usableTrace.MatchString(t) {
		state.traceparent = t
	}
	w.Header().Set("X-Request-ID", state.id)
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, state))
	rec := &statusRecorder{ResponseWriter: w}
	handler, route := o.mux.Handler(r)
	if route == "" {
		o.noRoute(handler, rec, r)
	} else {
		o.mux.ServeHTTP(rec, r)
	}
	o.record(r, state, route, rec.status, time.Since(start))
}

// noRoute answers what the mux would, 404 or 405 with Allow (or a redirect), as a problem document.
func (o *observer) noRoute(handler http.Handler, w *statusRecorder, r *http.Request) {
	probe := &headerRecorder{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
	}
	p := frameworkProblem(RequestID(r.Context()), probe.status, http.StatusText(probe.status), nil)
	writeProblem(w, p)
}

func (o *observer) record(r *http.Request, state *request, route string, status int, elapsed time.Duration) {
	if route == "" {
		route = "none" // never the path: a scanner would make a time series of every guess
	}
	o.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	o.seconds.WithLabelValues(route).Observe(elapsed.Seconds())
	level := slog.LevelInfo
	switch {
	case status >= 500 && fault.KindOf(state.err) == fault.Internal:
		level = slog.LevelError
	case status >= 500:
		level = slog.LevelWarn
	case quiet[route]:
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("request_id", state.id), slog.String("method", r.Method), slog.String("route", route),
		slog.Int("status", status), slog.Float64("elapsed_ms", float64(elapsed.Microseconds())/1000),
	}
	if id := r.Header.Get("Ce-Id"); id != "" {
		attrs = append(attrs, slog.String("event_id", id))
	}
	if state.err != nil {
		attrs = append(attrs, slog.String("code", fault.CodeOf(state.err)), slog.Any("err", state.err))
	}
	o.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// statusRecorder remembers the status for log and metrics.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the first status.
func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implies status 200.
func (w *statusRecorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// headerRecorder takes an answer's status and headers and drops its body.
type headerRecorder struct {
	header http.Header
	status int
}

// Header gives the recorded headers.
func (w *headerRecorder) Header() http.Header { return w.header }

// WriteHeader notes the status.
func (w *headerRecorder) WriteHeader(status int) { w.status = status }

// Write drops the body.
func (w *headerRecorder) Write(b []byte) (int, error) { return len(b), nil }
