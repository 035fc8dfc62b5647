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
}

// seconds are the buckets of http_request_duration_seconds.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}

// request is what the layers of one request share.
type request struct {
	id          string
	traceparent string
	eventID     string // of an event route
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

// maxLogged bounds what comes from outside, or follows from it, in a log line.
const maxLogged = 200

// NoteEvent keeps an event's id for the request's log line. Any length will do: it is cut.
func NoteEvent(ctx context.Context, id string) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		if len(id) > maxLogged {
			id = strings.ToValidUTF8(id[:maxLogged], "") + "…"
		}
		r.eventID = id
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

var quiet = map[string]bool{"GET /healthz": true, "GET /readyz": true, "GET /metrics": true, "GET /_/health": true, "GET /_/ready": true}

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	state := &request{id: r.Header.Get("X-Request-ID")}
	if !usableID(state.id) {
		state.id = newID()
	}
	if t := r.Header.Get("Traceparent"); usableTrace(t) {
		state.traceparent = t
	}
	w.Header().Set("X-Request-ID", state.id)
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
		rec.problem(frameworkProblem(state.id, rec.status, http.StatusText(rec.status), nil))
	}
}

func (o *observer) record(r *http.Request, state *request, status int, elapsed time.Duration) {
	route := r.Pattern
	if route == "" {
		route = "none" // never the path: a scanner would make a time series of every guess
	}
	o.metrics.GetOrCreateCounter(`http_requests_total{route="` + route + `",status="` + strconv.Itoa(status) + `"}`).Inc()
	o.metrics.GetOrCreatePrometheusHistogramExt(`http_request_duration_seconds{route="`+route+`"}`, seconds).Update(elapsed.Seconds())
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
	if state.eventID != "" {
		attrs = append(attrs, slog.String("event_id", state.eventID))
	}
	if state.err != nil {
		attrs = append(attrs, slog.String("code", fault.CodeOf(state.err)), slog.Any("err", state.err))
	}
	o.log.LogAttrs(r.Context(), level, "request", attrs...)
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
	for _, name := range []string{"Location", "X-Content-Type-Options"} {
		w.Header().Del(name)
	}
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
