package traces

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// span is a span. IDs are in hex.
type span struct {
	service, name     string
	trace, id, parent string // parent is empty for a root
	began, ended      time.Time
	links             []string // span IDs
	notes             string   // what its attributes say to a reader
	failed            bool
}

func read(data *otlp.TracesData) (spans []span) {
	for _, from := range data.GetResourceSpans() {
		service := attribute(from.GetResource().GetAttributes(), "service.name")
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				one := span{
					service: service, name: s.GetName(), trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()),
					parent: hex.EncodeToString(s.GetParentSpanId()), began: instant(s.GetStartTimeUnixNano()), ended: instant(s.GetEndTimeUnixNano()),
					failed: s.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR,
				}
				for _, l := range s.GetLinks() {
					one.links = append(one.links, hex.EncodeToString(l.GetSpanId()))
				}
				var notes []string
				for _, name := range []string{"http.response.status_code", "db.namespace", "server.address", "error.type"} {
					if value := attribute(s.GetAttributes(), name); value != "" {
						notes = append(notes, value)
					}
				}
				one.notes = strings.Join(notes, " ")
				spans = append(spans, one)
			}
		}
	}
	return spans
}

func instant(nanos uint64) time.Time { return time.Unix(0, int64(min(nanos, 1<<63-1))) } //nolint:gosec // it fits

func attribute(all []*common.KeyValue, name string) string {
	for _, a := range all {
		if a.GetKey() == name {
			switch v := a.GetValue().GetValue().(type) {
			case *common.AnyValue_StringValue:
				return v.StringValue
			case *common.AnyValue_IntValue:
				return strconv.FormatInt(v.IntValue, 10)
			}
		}
	}
	return ""
}

// summary is a trace in the list.
type summary struct {
	id, first    string
	began, ended time.Time
	spans        int
}

// summaries returns all traces; with q those that have a span whose text contains it, in any case.
func summaries(spans []span, q string) (out []summary) {
	at := map[string]int{}
	matches := map[string]bool{}
	for _, s := range spans {
		i, known := at[s.trace]
		if !known {
			i = len(out)
			at[s.trace] = i
			out = append(out, summary{id: s.trace, began: s.began, ended: s.ended, first: s.text()})
		}
		t := &out[i]
		t.spans++
		if s.began.Before(t.began) {
			t.began, t.first = s.began, s.text()
		}
		if s.ended.After(t.ended) {
			t.ended = s.ended
		}
		matches[s.trace] = matches[s.trace] || strings.Contains(strings.ToLower(s.text()), strings.ToLower(q))
	}
	return slices.DeleteFunc(out, func(t summary) bool { return !matches[t.id] })
}

// text names a span. Names and attributes come from outside, and a terminal may show them.
func (s span) text() string {
	text := s.service + " " + s.name
	if s.notes != "" {
		text += " (" + s.notes + ")"
	}
	if s.failed {
		text += " FAILED"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// line is a span in a tree.
type line struct {
	after, took time.Duration // since the beginning of the trace; of the span
	text        string
}

// tree returns a trace from its first span on, children below their parents. A span of another trace stands below the one that it links
// to. A span whose parent is unknown stands at the margin: it was sampled elsewhere, or has not come yet.
func tree(spans []span, id string) (lines []line) {
	known := map[string]bool{}
	children := map[string][]span{}
	var roots []span
	for _, s := range spans {
		known[s.id] = known[s.id] || s.trace == id
	}
	for _, s := range spans {
		switch {
		case s.trace == id && known[s.parent]:
			children[s.parent] = append(children[s.parent], s)
		case s.trace == id:
			roots = append(roots, s)
		default:
			for _, to := range s.links {
				if known[to] {
					s.notes = strings.TrimSpace(s.notes + " in trace " + s.trace)
					children[to] = append(children[to], s)
				}
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	byTime := func(a, b span) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.id, b.id)) }
	slices.SortFunc(roots, byTime)
	began := roots[0].began
	var add func(s span, depth int)
	add = func(s span, depth int) {
		lines = append(lines, line{after: s.began.Sub(began), took: s.ended.Sub(s.began), text: strings.Repeat("  ", depth) + s.text()})
		if s.trace != id || depth == maxDepth {
			return
		}
		below := children[s.id]
		slices.SortFunc(below, byTime)
		for _, c := range below {
			add(c, depth+1)
		}
	}
	for _, s := range roots {
		add(s, 0)
	}
	return lines
}

const maxDepth = 100 // of a span that is its own ancestor, too
