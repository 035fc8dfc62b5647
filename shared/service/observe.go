package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"

	"marketdata/shared/fault"
)

// observer surrounds the mux: request id, one log line and metrics for each request, problem documents for routes and
// methods that do not exist.
type observer struct {
	mux     *http.ServeMux
	log     *slog.Logger
	metrics *metrics.Set
	routine summaries
	counts  sync.Map // routeStatus to routeMetrics: what the set would find by a name that is put together each time
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

// seconds are the buckets of http_request_duration_seconds.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}

// request is what the layers of one request share.
type request struct {
	id          string
	traceparent string
	eventID     string // of an event; empty for other requests
	notes       []slog.Attr
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

// Identify gives a request an id (see [RequestID]) where no [Service] does, and puts it into the request's X-Request-ID, so that
// whoever it is passed on to has the same.
func Identify(r *http.Request) *http.Request {
	state := &request{id: idOf(r)}
	r = r.Clone(context.WithValue(r.Context(), requestKey{}, state))
	r.Header.Set("X-Request-ID", state.id)
	return r
}

// idOf is the client's X-Request-ID if usable, else a new id.
func idOf(r *http.Request) string {
	if id := r.Header.Get("X-Request-ID"); usableID(id) {
		return id
	}
	return newID()
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

// maxLogged bounds an event's id in a log line, in bytes.
const maxLogged = 200

// NoteEvent says that the request is an event and keeps its id, which is not empty, for the log line. Any length will do: it is cut. An event that
// is acknowledged without an error or a [Note] has a line at debug level only, and is summed up with others every 10 s.
func NoteEvent(ctx context.Context, id string) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.eventID = cut(id, maxLogged)
	}
}

// Note puts something worth knowing on the request's log line: an event with a note is not routine.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.notes = append(r.notes, attrs...)
	}
}

// usableID reports 1 to 128 of A-Z a-z 0-9 . _ : - , which need no escape in any log.
func usableID(id string) bool {
	other := func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != ':' && c != '-'
	}
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, other)
}

// newID makes a random UUID (RFC 9562, version 4). It names a request in logs and keeps no secret: the runtime's generator will
// do, and does it in a tenth of the time of the system's.
func newID() string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// traceForm is the form of a traceparent of version 00 (W3C Trace Context, section 3.2.2): x stands for a hex digit.
const traceForm = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx"

func usableTrace(header string) bool {
	if len(header) != len(traceForm) {
		return false
	}
	for i := range len(header) {
		c := header[i]
		if digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'; digit != (traceForm[i] == 'x') || !digit && c != '-' {
			return false
		}
	}
	return true
}

// Shared by all answers: nobody changes them in place.
var nosniff, noStore = []string{"nosniff"}, []string{"no-store"}

var quiet = map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /metrics": true, "GET /_/health": true, "GET /_/ready": true}

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	state := &request{id: idOf(r)}
	if t := r.Header.Get("Traceparent"); usableTrace(t) {
		state.traceparent = t
	}
	header := w.Header() // the names in canonical form, which spares their conversion
	header["X-Request-Id"] = []string{state.id}
	header["X-Content-Type-Options"] = nosniff
	header["Cache-Control"] = noStore // a route whose answers may be kept says so itself
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, state))
	rec := &recorder{ResponseWriter: w, request: r}
	defer func() {
		if v := recover(); v != nil {
			state.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			if rec.status == 0 {
				rec.problem(frameworkProblem(state.id, http.StatusInternalServerError, "", nil))
			} else { // the answer is under way: what cannot be completed must not look complete
				defer panic(http.ErrAbortHandler)
			}
		}
		o.record(r, state, rec.status, time.Since(start))
	}()
	o.mux.ServeHTTP(rec, r)
	if rec.byMux() {
		if rec.status == http.StatusTemporaryRedirect { // to the clean form of a path that does not exist either
			rec.status = http.StatusNotFound
		}
		rec.problem(frameworkProblem(state.id, rec.status, http.StatusText(rec.status), nil))
	}
}

// maxLoggedError bounds an error in a log line, in bytes: room for a stack, and for what a client sent only as far as it helps
const maxLoggedError = 8 << 10

// cut shortens text to at most n bytes and says so; what is not UTF-8 is replaced.
func cut(text string, n int) string {
	if len(text) <= n {
		return strings.ToValidUTF8(text, "\ufffd")
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

func (o *observer) record(r *http.Request, state *request, status int, elapsed time.Duration) {
	route := r.Pattern
	if route == "" {
		route = "none" // never the path: a scanner would make a time series of every guess
	}
	m := o.metricsOf(route, status)
	m.requests.Inc()
	m.duration.Update(elapsed.Seconds())
	level := slog.LevelInfo
	switch {
	case status >= 500 && state.err != nil && fault.KindOf(state.err) == fault.Internal:
		level = slog.LevelError
	case status >= 500:
		level = slog.LevelWarn
	case state.eventID != "" && status < 300 && state.err == nil && len(state.notes) == 0:
		o.routine.add(route, elapsed)
		level = slog.LevelDebug
	case quiet[route]:
		level = slog.LevelDebug
	}
	if !o.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", state.id), slog.String("method", cut(r.Method, 16)), slog.String("route", route),
		slog.Int("status", status), slog.Float64("elapsed_ms", milliseconds(elapsed)),
	}
	if state.eventID != "" {
		attrs = append(attrs, slog.String("event_id", state.eventID))
	}
	if state.err != nil {
		attrs = append(attrs, slog.String("code", fault.CodeOf(state.err)), slog.String("err", cut(state.err.Error(), maxLoggedError)))
	}
	o.log.LogAttrs(r.Context(), level, "request", append(attrs, state.notes...)...)
}

// recorder remembers the status for log and metrics, and holds back what the mux answers of its own where no route
// matches: 404, 405 with Allow, or a redirect to a path that does not exist either.
type recorder struct {
	http.ResponseWriter
	request *http.Request // the mux notes the route's pattern in it before it calls a handler
	status  int
}

func (w *recorder) byMux() bool { return w.request.Pattern == "" }

// problem answers with p in place of whatever was held back.
func (w *recorder) problem(p *Problem) {
	w.status = p.Status
	w.Header().Del("Location")
	writeProblem(w.ResponseWriter, p)
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
