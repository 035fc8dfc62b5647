// Package kafkasink emulates Knative's KafkaSink: it receives CloudEvents over HTTP and produces them to a topic.
package kafkasink

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
)

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

// ServeHTTP answers 202 once the broker has acknowledged the record, 400 if the request is not a CloudEvent, 405 for methods other
// than POST, and 503 if the record was not produced (IngressRequestHandlerImpl).
func (s Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	record, err := s.record(r)
	switch {
	case fault.KindOf(err) == fault.Unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case err != nil:
		s.Log.WarnContext(r.Context(), "refused a request that is not a CloudEvent", "err", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if record.Bytes() > deadletter.SinkBytes { // as on a cluster; functions write the dead letters of larger events themselves
		s.Log.WarnContext(r.Context(), "refused a record larger than a KafkaSink's max.request.size", "bytes", record.Bytes(), "topic", s.Topic)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err := s.Producer.Produce(r.Context(), record); err != nil {
		s.Log.WarnContext(r.Context(), "could not produce the record", "err", err, "topic", s.Topic)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// record converts the event as the CloudEvents Kafka binding defines it: ce_* headers, partitionkey as the key, and a null value
// for an event without data. In binary mode attributes are copied unchanged, even invalid ones.
func (s Sink) record(r *http.Request) (kafkaclient.Record, error) {
	d, err := ingress.Read(r, deadletter.SinkBytes)
	if err != nil && fault.CodeOf(err) != fault.CodeBodyTooLarge {
		return kafkaclient.Record{}, err
	}
	attributes := map[string]string{}
	if r.Header.Get("Ce-Specversion") != "" {
		for name, values := range r.Header {
			if attribute, ok := strings.CutPrefix(name, "Ce-"); ok {
				attributes["ce_"+strings.ToLower(attribute)] = values[0]
			}
		}
		attributes["content-type"] = r.Header.Get("Content-Type")
	} else if err == nil && !d.StatusIgnored {
		attributes = map[string]string{
			"ce_specversion": d.Event.SpecVersion(), "ce_id": d.Event.ID(), "ce_source": d.Event.Source(), "ce_type": d.Event.Type(),
			"ce_subject": d.Event.Subject(), "content-type": d.Event.DataContentType(),
		}
		for name := range d.Event.Extensions() {
			attributes["ce_"+name] = d.Extension(name)
		}
		d.Body = d.Event.Data()
	} else {
		return kafkaclient.Record{}, fault.New(fault.Invalid, fault.CodeUndecodable, "the request is not a CloudEvent")
	}
	attributes["traceparent"] = r.Header.Get("Traceparent")
	record := kafkaclient.Record{Topic: s.Topic}
	if len(d.Body) > 0 {
		record.Value = d.Body
	}
	if key := attributes["ce_partitionkey"]; key != "" {
		record.Key = []byte(key)
	}
	for name, value := range attributes {
		if value != "" {
			record.Headers = append(record.Headers, kafkaclient.Header{Name: name, Value: []byte(value)})
		}
	}
	slices.SortFunc(record.Headers, func(a, b kafkaclient.Header) int { return strings.Compare(a.Name, b.Name) })
	return record, nil
}
