// Package traces shows the spans of a local stack as text, without a collector of OpenTelemetry. It takes them over OTLP/HTTP.
package traces

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
)

const (
	kept     = 100_000 // spans; the oldest traces are forgotten
	ofTrace  = 1_000   // spans of one trace without links: a history has one for each of its bars
	listed   = 30      // traces
	maxBytes = 8 << 20 // of a request
)

// Store keeps the traces that came last, in memory. Safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	traces map[string]*trace
	order  []string // of traces, the oldest first
	spans  int      // of all traces
}

type trace struct {
	spans map[string]span // by ID: an exporter that got no answer sends its spans again
	more  int             // spans that were not kept
}

// Receive is the handler of an OTLP endpoint, POST /v1/traces.
func (s *Store) Receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	var data otlp.TracesData // has the form of the request, whose own type links gRPC
	if err != nil || proto.Unmarshal(body, &data) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range read(&data) {
		s.keep(one)
	}
	for s.spans > kept {
		s.spans -= len(s.traces[s.order[0]].spans)
		delete(s.traces, s.order[0])
		s.order = s.order[1:]
	}
}

func (s *Store) keep(one span) {
	if s.traces == nil {
		s.traces = map[string]*trace{}
	}
	t := s.traces[one.trace]
	if t == nil {
		t = &trace{spans: map[string]span{}}
		s.traces[one.trace] = t
		s.order = append(s.order, one.trace)
	}
	_, known := t.spans[one.id]
	switch {
	case known:
	case len(t.spans) >= ofTrace && len(one.links) == 0: // a transaction that links to other traces is a part of theirs
		t.more++
	default:
		t.spans[one.id] = one
		s.spans++
	}
}

// snapshot returns the spans that are kept.
func (s *Store) snapshot() (spans []span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.traces {
		spans = slices.AppendSeq(spans, maps.Values(t.spans))
	}
	return spans
}

// more returns how many spans of a trace were not kept.
func (s *Store) more(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.traces[id]; t != nil {
		return t.more
	}
	return 0
}

// List is the handler of GET /traces: the traces that began last, newest first. With ?q= only those that have a span whose name contains it.
func (s *Store) List(w http.ResponseWriter, r *http.Request) {
	traces := summaries(s.snapshot(), r.URL.Query().Get("q"))
	slices.SortFunc(traces, func(a, b summary) int { return cmp.Or(b.began.Compare(a.began), cmp.Compare(a.id, b.id)) })
	text(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "TRACE\tBEGAN (UTC)\tTOOK\tSPANS\tBEGINS WITH")
	for _, trace := range traces[:min(listed, len(traces))] {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", trace.id, trace.began.UTC().Format("15:04:05.000"), millis(trace.ended.Sub(trace.began)), trace.spans, trace.first)
	}
	_ = t.Flush() // a client that has gone needs no answer
}

// Show is the handler of GET /traces/{id}: the spans of a trace as a tree, with those of other traces that link to one of them.
func (s *Store) Show(w http.ResponseWriter, r *http.Request) {
	lines := tree(s.snapshot(), r.PathValue("id"))
	if len(lines) == 0 {
		problem.Write(w, r, fault.New(fault.NotFound, fault.CodeRouteNotFound, "no span of this trace is known; spans come a few seconds after they end"))
		return
	}
	text(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "AFTER\tTOOK\tSPAN")
	for _, l := range lines {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", millis(l.after), millis(l.took), l.text)
	}
	_ = t.Flush()
	if n := s.more(r.PathValue("id")); n > 0 {
		_, _ = fmt.Fprintf(w, "… and %d more spans\n", n)
	}
}

func text(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
