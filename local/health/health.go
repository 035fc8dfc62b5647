// Package health says for the page how the pipeline is: which functions answer, and what their metrics, their sources and the dead letters
// say. It only reads, and it answers in time whatever hangs: a part that does not answer is left out. For Prometheus it has the metrics of
// the local runtime, and the list of the replicas.
package health

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/local/kafkasource"
	"marketdata/local/serving"
	"marketdata/shared/metric"
)

const (
	// patience is how long a replica may take to answer.
	patience = time.Second
	// maxAge is how old an answer may be: however many pages ask, each replica is asked once in that time.
	maxAge = time.Second
)

// Options say where to look.
type Options struct {
	Functions []string                             // in the order in which they are shown
	Replicas  func() map[string][]string           // base URLs of the running replicas, by function
	Scale     func() []serving.Status              // of functions that scale to zero; nil: they always run
	Sources   func() map[string]kafkasource.Status // by sink; nil: they run elsewhere
	Token     string                               // for the counts of dead letters
	Transport http.RoundTripper                    // nil: the default one
	Metrics   *metrics.Set                         // of the local runtime; nil: only those of the functions' replicas
}

// Report is what the page shows. A part that is null could not be read.
type Report struct {
	Functions   []Function   `json:"functions"`
	Events      *Events      `json:"events"`
	Outbox      *Outbox      `json:"outbox"`
	DeadLetters *DeadLetters `json:"dead_letters"`
	Limiter     *string      `json:"limiter"` // shared, or degraded: at least one replica decides without Redis
	Budgets     []Budget     `json:"budgets"` // null: no function that calls providers answers
}

// Function is the state of one function.
type Function struct {
	Function string `json:"function"`
	// State is up, partly (some of its replicas do not answer), asleep (scaled to zero), starting, unavailable, or not_running.
	State     string          `json:"state"`
	Replicas  int             `json:"replicas"`
	Answering int             `json:"answering"`
	Missing   []string        `json:"missing"` // dependencies that a replica cannot use
	Scale     *serving.Status `json:"scale,omitempty"`
}

// Events are those that compute-ma handled since its replicas started. The page makes rates of them.
type Events struct {
	Handled float64  `json:"handled"`
	Waiting *int64   `json:"waiting"`  // in the topic; null: the source runs elsewhere
	DelayMS *float64 `json:"delay_ms"` // see [kafkasource.Status]
}

// Outbox is what the last sweep found.
type Outbox struct {
	Rows          float64 `json:"rows"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// DeadLetters are those that wait for a decision.
type DeadLetters struct {
	Open   int64   `json:"open"`
	Causes []Cause `json:"causes"` // the largest first; causes of one code together
}

// Cause is a code of dead letters.
type Cause struct {
	Code string `json:"code"`
	Open int64  `json:"open"`
}

// Budget is what was left of a provider's budget at the last call.
type Budget struct {
	Provider string  `json:"provider"`
	Window   string  `json:"window"`
	Left     float64 `json:"left"`
}

// Handler answers with a Report, and for Prometheus. Safe for concurrent use.
type Handler struct {
	Options
	mux  *http.ServeMux
	mu   sync.Mutex
	made time.Time
	last []byte
}

// New returns a handler.
func New(o Options) *Handler {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	h := &Handler{Options: o, mux: http.NewServeMux()}
	metric.Describe(help)
	h.Metrics.RegisterMetricsWriter(h.writeMetrics)
	h.mux.HandleFunc("GET /page/health", h.answer)
	h.mux.HandleFunc("GET /metrics", h.metrics)
	h.mux.HandleFunc("GET /metrics/targets", h.targets)
	return h
}

// ServeHTTP answers the routes /page/health, /metrics and /metrics/targets.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(h.report()) // the client may have gone
}

// report returns the last report if it is young enough. Whoever comes while one is made waits for it.
func (h *Handler) report() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.made) < maxAge {
		return h.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) // not of one request: the report is for all that wait
	defer cancel()
	h.last, _ = json.Marshal(h.make(ctx)) // the types have no value that JSON cannot hold
	h.made = time.Now()
	return h.last
}

func (h *Handler) make(ctx context.Context) Report {
	all := h.Replicas()
	var asking sync.WaitGroup
	answers := map[string][]*answer{}
	for _, name := range h.Functions {
		for _, base := range all[name] {
			a := &answer{}
			answers[name] = append(answers[name], a)
			asking.Go(func() { h.ask(ctx, base, a) })
		}
	}
	var letters *DeadLetters
	if replicas := all["dlq-inspector"]; len(replicas) > 0 {
		asking.Go(func() { letters = h.letters(ctx, replicas) })
	}
	asking.Wait()

	scale := map[string]serving.Status{}
	if h.Scale != nil {
		for _, s := range h.Scale() {
			scale[s.Function] = s
		}
	}
	r := Report{DeadLetters: letters}
	for _, name := range h.Functions {
		s, scales := scale[name]
		f := functionOf(name, answers[name], scales, s.Replicas)
		if scales {
			f.Scale = &s
		}
		r.Functions = append(r.Functions, f)
	}
	h.sum(&r, answers)
	return r
}

func functionOf(name string, answers []*answer, scales bool, processes int) Function {
	f := Function{Function: name, Replicas: max(len(answers), processes), Missing: []string{}}
	for _, a := range answers {
		if a.metrics == nil {
			continue
		}
		f.Answering++
		for series, up := range a.metrics {
			if dependency := label(series, "marketdata_dependency_up", "dependency"); dependency != "" && up == 0 && !slices.Contains(f.Missing, dependency) {
				f.Missing = append(f.Missing, dependency)
			}
		}
	}
	slices.Sort(f.Missing)
	switch {
	case f.Answering > 0 && f.Answering == len(answers):
		f.State = "up"
	case f.Answering > 0:
		f.State = "partly"
	case len(answers) > 0:
		f.State = "unavailable"
	case scales && processes > 0:
		f.State = "starting"
	case scales:
		f.State = "asleep"
	default:
		f.State = "not_running"
	}
	return f
}

// sum makes the parts of a report that concern the pipeline as a whole.
func (h *Handler) sum(r *Report, answers map[string][]*answer) {
	budgets := map[Budget]float64{} // without Left
	for name, list := range answers {
		for _, a := range list {
			if a.metrics == nil {
				continue
			}
			if r.Limiter == nil {
				r.Limiter = new(string)
				*r.Limiter = "shared"
			}
			switch name {
			case "compute-ma":
				if r.Events == nil {
					r.Events = &Events{}
				}
			case "poll":
				if r.Outbox == nil {
					r.Outbox = &Outbox{}
				}
			}
			for series, v := range a.metrics {
				switch {
				case name == "compute-ma" && strings.HasPrefix(series, "marketdata_compute_ma_events_total{"):
					r.Events.Handled += v
				case name == "poll" && series == "marketdata_outbox_rows":
					r.Outbox.Rows = max(r.Outbox.Rows, v)
				case name == "poll" && series == "marketdata_outbox_oldest_age_seconds":
					r.Outbox.OldestSeconds = max(r.Outbox.OldestSeconds, v)
				case series == "marketdata_limiter_degraded" && v > 0:
					*r.Limiter = "degraded"
				case strings.HasPrefix(series, "marketdata_provider_budget_left{"):
					b := Budget{Provider: label(series, "marketdata_provider_budget_left", "provider"), Window: label(series, "marketdata_provider_budget_left", "window")}
					if left, known := budgets[b]; !known || v < left { // each replica knows its own last call
						budgets[b] = v
					}
				}
			}
			if (name == "poll" || name == "get-latest") && r.Budgets == nil {
				r.Budgets = []Budget{}
			}
		}
	}
	for b, left := range budgets {
		r.Budgets = append(r.Budgets, Budget{b.Provider, b.Window, left})
	}
	slices.SortFunc(r.Budgets, func(a, b Budget) int { return strings.Compare(a.Provider+" "+a.Window, b.Provider+" "+b.Window) })
	if h.Sources == nil || r.Events == nil {
		return
	}
	if s, found := h.Sources()["compute-ma"]; found {
		delay := float64(s.Delay.Microseconds()) / 1000
		r.Events.Waiting, r.Events.DelayMS = &s.Waiting, &delay
	}
}

// letters reads the open dead letters from the first replica that answers; nil: none does.
func (h *Handler) letters(ctx context.Context, replicas []string) *DeadLetters {
	for _, base := range replicas {
		var stats struct{ Statuses map[string]int64 }
		var groups struct {
			Groups []struct {
				Code string
				Open int64
			}
		}
		if h.get(ctx, base+"/dlq/stats", &stats) != nil || h.get(ctx, base+"/dlq/groups?limit=200", &groups) != nil {
			continue
		}
		open := map[string]int64{}
		for _, g := range groups.Groups {
			open[g.Code] += g.Open
		}
		out := &DeadLetters{Open: stats.Statuses["open"], Causes: []Cause{}}
		for _, code := range slices.SortedFunc(maps.Keys(open), func(a, b string) int {
			if open[a] != open[b] {
				return int(min(max(open[b]-open[a], -1), 1))
			}
			return strings.Compare(a, b)
		}) {
			if open[code] > 0 {
				out.Causes = append(out.Causes, Cause{code, open[code]})
			}
		}
		return out
	}
	return nil
}
