package health

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/VictoriaMetrics/metrics"

	"marketdata/local/serving"
	"marketdata/shared/metric"
)

var help = []metric.Help{
	{Name: "marketdata_function_replicas", Text: "Replicas of a function that run."},
	{Name: "marketdata_function_asleep", Text: "1 while a function is scaled to zero, otherwise 0."},
	{Name: "marketdata_function_waiting_requests", Text: "Requests that wait for a replica."},
	{Name: "marketdata_function_cold_starts_total", Text: "Replicas that were started and became ready."},
}

// writeMetrics writes how many replicas each function has.
func (h *Handler) writeMetrics(w io.Writer) {
	replicas, scale := h.Replicas(), map[string]serving.Status{}
	if h.Scale != nil {
		for _, s := range h.Scale() {
			scale[s.Function] = s
		}
	}
	for _, name := range h.Functions {
		s, scales := scale[name]
		asleep := 0.0
		if scales && s.Replicas == 0 {
			asleep = 1
		}
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("marketdata_function_replicas{function=%q}", name), float64(max(s.Replicas, len(replicas[name]))))
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("marketdata_function_asleep{function=%q}", name), asleep)
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("marketdata_function_waiting_requests{function=%q}", name), float64(s.Waiting))
		metrics.WriteCounterFloat64(w, fmt.Sprintf("marketdata_function_cold_starts_total{function=%q}", name), float64(s.ColdStarts))
	}
}

func (h *Handler) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_ = metric.Write(w, h.Metrics) // an error here means that the client went away
}

// target is an entry of Prometheus' HTTP service discovery.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// targets lists the running replicas for Prometheus, each with the function that it is of. A replica is scraped directly: that neither
// wakes a function nor keeps it awake.
func (h *Handler) targets(w http.ResponseWriter, _ *http.Request) {
	all, replicas := []target{}, h.Replicas()
	for _, name := range h.Functions {
		t := target{Targets: []string{}, Labels: map[string]string{"function": name}}
		for _, base := range replicas[name] {
			if u, err := url.Parse(base); err == nil {
				t.Targets = append(t.Targets, u.Host)
			}
		}
		all = append(all, t)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // as above
}
