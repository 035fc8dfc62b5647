package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/shared/fault"
	"marketdata/shared/metric"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/trace"
)

// observer wraps the mux: it adds request id, a log line and metrics to each request, and answers for routes and methods that do not
// exist with problem documents.
type observer struct {
	mux     *http.ServeMux
	log     *slog.Logger
	metrics *metrics.Set
	defects *metrics.Counter
	routine summaries
	refused summaries
	tracing *trace.Tracing // nil: none
	counts  sync.Map       // routeStatus to routeMetrics, to avoid building a metric's name for each request
}

type routeStatus struct {
	route  string
	status int
}

type routeMetrics struct {
	requests *metrics.Counter
	duration *metrics.PrometheusHistogram
}

func (o *observer) metricsOf(route string, status int) routeMetrics {
	key := routeStatus{route, status}
	if found, ok := o.counts.Load(key); ok {
		return found.(routeMetrics) //nolint:forcetypeassert // nothing else is stored
	}
	m := routeMetrics{
		o.metrics.GetOrCreateCounter(`http_requests_total{route="` + route + `",status="` + strconv.Itoa(status) + `"}`),
		o.metrics.GetOrCreatePrometheusHistogramExt(`http_request_duration_seconds{route="`+route+`"}`, seconds),
	}
	o.counts.Store(key, m)
	return m
}

var help = []metric.Help{
	{Name: "http_requests_total", Text: "Requests by route and status of the response."},
	{Name: "http_request_duration_seconds", Text: "Time to respond, by route."},
	{Name: "marketdata_internal_errors_total", Text: "Requests that failed because of a defect."},
	{Name: "marketdata_dependency_up", Text: "Whether a service that the function uses answered the last check: 1 or 0."},
}

// seconds are the buckets of http_request_duration_seconds.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}

// Values shared by all answers; they must not be changed in place.
var nosniff, noStore = []string{"nosniff"}, []string{"no-store"}

var quiet = map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /metrics": true, "GET /_/health": true, "GET /_/ready": true}

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	r, state := request.Begin(r)
	r, span := o.trace(r, state)
	header := w.Header() // canonical names need no conversion
	header["X-Request-Id"] = []string{state.ID}
	header["X-Content-Type-Options"] = nosniff
	header["Cache-Control"] = noStore // a route whose answers may be cached overrides it
	rec := &recorder{ResponseWriter: w, request: r}
	defer func() {
		if v := recover(); v != nil {
			if err, _ := v.(error); !errors.Is(err, http.ErrAbortHandler) || state.Err == nil { // a handler that gives up its answer has noted why
				state.Err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			if rec.status == 0 {
				rec.problem(problem.OfStatus(http.StatusInternalServerError, "", state.ID, nil))
			} else { // the answer has begun: if it cannot be completed, it must not look complete
				defer panic(http.ErrAbortHandler)
			}
		}
		o.record(r, state, rec.status, time.Since(start))
		endSpan(span, r, state, rec.status)
	}()
	o.mux.ServeHTTP(rec, r)
	if rec.byMux() {
		if rec.status == http.StatusTemporaryRedirect { // to the clean form of a path that does not exist either
			rec.status = http.StatusNotFound
		}
		rec.problem(problem.OfStatus(rec.status, http.StatusText(rec.status), state.ID, nil))
	}
}

// turnAway records a request that found no connection free, after it has waited so long.
func (o *observer) turnAway(waited time.Duration) {
	m := o.metricsOf("none", http.StatusServiceUnavailable)
	m.requests.Inc()
	m.duration.Update(waited.Seconds())
	o.refused.add("none", waited)
}

// maxLoggedError bounds an error in a log line, in bytes: enough for a stack.
const maxLoggedError = 8 << 10

func (o *observer) record(r *http.Request, state *request.State, status int, elapsed time.Duration) {
	route := r.Pattern
	if route == "" {
		route = "none" // never the path: a scanner would make a time series of every guess
	}
	m := o.metricsOf(route, status)
	m.requests.Inc()
	m.duration.Update(elapsed.Seconds())
	level := slog.LevelInfo
	switch {
	case status >= 500 && state.Err != nil && fault.KindOf(state.Err) == fault.Internal:
		level = slog.LevelError
		o.defects.Inc()
	case quiet[route]: // a dependency that changes has a line of its own
		level = slog.LevelDebug
	case status >= 500 && fault.CodeOf(state.Err) == fault.CodeOverloaded:
		o.refused.add(route, elapsed)
		level = slog.LevelDebug
	case status >= 500:
		level = slog.LevelWarn
	case state.EventID != "" && status < 300 && state.Err == nil && len(state.Notes) == 0:
		o.routine.add(route, elapsed)
		level = slog.LevelDebug
	}
	if !o.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", state.ID), slog.String("method", request.Cut(r.Method, 16)), slog.String("route", route),
		slog.Int("status", status), slog.Float64("elapsed_ms", milliseconds(elapsed)),
	}
	if state.EventID != "" {
		attrs = append(attrs, slog.String("event_id", state.EventID))
	}
	if state.Err != nil {
		attrs = append(attrs, slog.String("code", fault.CodeOf(state.Err)), slog.String("err", request.Cut(state.Err.Error(), maxLoggedError)))
	}
	o.log.LogAttrs(r.Context(), level, "request", append(attrs, state.Notes...)...)
}

// recorder remembers the status for log and metrics. It holds back the mux's own answers if no route matches: 404, 405 with Allow, or a
// redirect to a path that does not exist either.
type recorder struct {
	http.ResponseWriter
	request *http.Request // the mux notes the route's pattern in it before it calls a handler
	status  int
}

func (w *recorder) byMux() bool { return w.request.Pattern == "" }

// problem answers with p instead of what was held back.
func (w *recorder) problem(p *problem.Problem) {
	w.status = p.Status
	w.Header().Del("Location")
	p.Write(w.ResponseWriter)
}

// WriteHeader notes the first status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	if !w.byMux() {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write implies status 200.
func (w *recorder) Write(b []byte) (int, error) {
	if w.byMux() {
		return len(b), nil
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
