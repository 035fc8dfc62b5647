// Package kafkasink emulates Knative's KafkaSink: it receives CloudEvents over HTTP and produces them to a topic.
package kafkasink

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sort"
	"strings"

	"github.com/cloudevents/sdk-go/v2/types"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
)

// maxBody is more than any event of ours: the topic's own bound speaks first.
const maxBody = 8 << 20

// Producer writes one record and waits for its acknowledgement.
type Producer interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// Sink is the receiver of one KafkaSink, in binary content mode.
type Sink struct {
	Producer Producer
	Topic    string
	Log      *slog.Logger
}

// ServeHTTP answers 202 once the broker has acknowledged, 400 for what is no CloudEvent, 405 for other methods than POST,
// and 503 for what was not produced (IngressRequestHandlerImpl).
func (s Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	record, err := s.record(r.Header, body)
	if err != nil {
		s.Log.WarnContext(r.Context(), "not a CloudEvent", "err", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := s.Producer.Produce(r.Context(), record); err != nil {
		s.Log.WarnContext(r.Context(), "not produced", "err", err, "topic", s.Topic)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// record writes the event as the CloudEvents Kafka binding has it: ce_* headers, key = partitionkey, and a null value
// for an event without data.
func (s Sink) record(header http.Header, body []byte) (kafkaclient.Record, error) {
	e, err := ingress.Decode(header, body)
	if err != nil {
		return kafkaclient.Record{}, err
	}
	if header.Get("Ce-Specversion") == "" && !strings.HasPrefix(header.Get("Content-Type"), "application/cloudevents") {
		return kafkaclient.Record{}, fault.New(fault.Invalid, "undecodable", "the request is not a CloudEvent")
	}
	attributes := map[string]string{
		"ce_specversion": e.SpecVersion(), "ce_id": e.ID(), "ce_source": e.Source(), "ce_type": e.Type(),
		"ce_subject": e.Subject(), "ce_dataschema": e.DataSchema(), "content-type": e.DataContentType(),
		"traceparent": header.Get("Traceparent"),
	}
	if !e.Time().IsZero() {
		attributes["ce_time"] = types.FormatTime(e.Time())
	}
	r := kafkaclient.Record{Topic: s.Topic, Value: e.Data()}
	for name, v := range e.Extensions() {
		text, err := types.Format(v)
		if err != nil {
			return kafkaclient.Record{}, fault.Wrap(err, fault.Invalid, "undecodable", "extension %q has no text form", name)
		}
		attributes["ce_"+name] = text
		if name == "partitionkey" {
			r.Key = []byte(text)
		}
	}
	for name, value := range attributes {
		if value != "" {
			r.Headers = append(r.Headers, kafkaclient.Header{Name: name, Value: []byte(value)})
		}
	}
	sort.Slice(r.Headers, func(i, j int) bool { return r.Headers[i].Name < r.Headers[j].Name })
	return r, nil
}
