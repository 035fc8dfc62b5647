package kafkasource

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"marketdata/shared/trace"
)

// Delivery is spec.delivery as the control plane resolves it.
type Delivery struct {
	Retry          int           // retries after the first attempt
	Exponential    bool          // else linear
	BackoffDelay   time.Duration // unit of the delays
	Timeout        time.Duration // of one request
	DeadLetterSink string        // URL; if empty, failed events are lost
}

// backoff returns the delay before retry n, counted from 1: linear delay·n, exponential delay·2^n. There is no jitter and no cap.
func (d Delivery) backoff(n int) time.Duration {
	if d.Exponential {
		return d.BackoffDelay << min(n, 40)
	}
	return d.BackoffDelay * time.Duration(n)
}

// retryable is isRetryableStatusCode. Events that fail with another status go to the dead letter sink at once.
func retryable(status int) bool {
	return status >= 500 || status == 404 || status == 408 || status == 409 || status == 429
}

// outcome is the result of the last attempt.
type outcome struct {
	ok     bool
	status int // 0: no response
	body   []byte
	kne    map[string]string // the response's Kne-* headers, without the prefix and in lower case
}

// sender posts events.
type sender struct {
	connections *connections
	namespace   string
	log         *slog.Logger
	metrics     metrics
	waits       atomic.Int64 // deliveries that wait for their next attempt
	sleep       func(ctx context.Context, d time.Duration) error
}

func newSender(namespace string, log *slog.Logger, m metrics) *sender {
	return &sender{connections: newConnections(), namespace: namespace, log: log, metrics: m, sleep: sleep}
}

// abandon closes all connections: those with requests in flight, and idle ones. A connection that was opened but never used would
// delay the sink's shutdown by 5 s.
func (s *sender) abandon() { s.connections.close() }

// shown shortens a text for a log line: event IDs come from outside and may have any length.
func shown(text string) string {
	if len(text) <= 128 {
		return text
	}
	return strings.ToValidUTF8(text[:128], "") + "…"
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// deliver sends ev to the sink with all retries, then to the dead letter sink. It returns nil once the record is done, even if it
// was lost because there is no dead letter sink, as in the data plane. An error means that ctx ended first, and the record must be
// redelivered.
func (s *sender) deliver(ctx context.Context, ev Event, sink string, d Delivery) error {
	last, err := s.attempts(ctx, ev, sink, d)
	switch {
	case err != nil:
		return err
	case last.ok:
		s.metrics.delivered.Inc()
		return nil
	}
	trace.Current(ctx).Fail(strconv.Itoa(last.status))
	if d.DeadLetterSink == "" {
		s.metrics.lost.Inc()
		s.log.ErrorContext(ctx, "event lost: there is no dead letter sink", "event_id", shown(ev.Attributes["id"]), "status", last.status)
		return nil
	}
	dead, err := s.attempts(ctx, enriched(ev, sink, last), d.DeadLetterSink, d)
	switch {
	case err != nil:
	case dead.ok:
		s.metrics.deadLettered.Inc()
	default:
		s.metrics.lost.Inc()
		s.log.ErrorContext(ctx, "event lost: the dead letter sink refused it", "event_id", shown(ev.Attributes["id"]), "status", dead.status)
	}
	return err
}

// enriched adds the attributes of a dead letter (RecordDispatcherImpl): knativeerrordest always; if there was a response,
// knativeerrorcode, knativeerrordata (base64 of the body's first 1024 bytes) and its Kne-* headers. A dead letter always has
// version 1.0.
func enriched(ev Event, sink string, last outcome) Event {
	ev.Attributes = maps.Clone(ev.Attributes)
	if ev.Attributes["specversion"] == "0.3" {
		ev.Attributes["specversion"] = "1.0"
		if schema, found := ev.Attributes["schemaurl"]; found {
			ev.Attributes["dataschema"] = schema
			delete(ev.Attributes, "schemaurl")
		}
	}
	ev.Attributes["knativeerrordest"] = sink
	if last.status != 0 {
		ev.Attributes["knativeerrorcode"] = strconv.Itoa(last.status)
		if len(last.body) > 0 {
			ev.Attributes["knativeerrordata"] = base64.StdEncoding.EncodeToString(last.body[:min(len(last.body), 1024)])
		}
	}
	maps.Copy(ev.Attributes, last.kne)
	return ev
}

func (s *sender) attempts(ctx context.Context, ev Event, target string, d Delivery) (outcome, error) {
	for n := 0; ; {
		last := s.post(ctx, n, ev, target, d.Timeout)
		if !last.ok && ctx.Err() != nil {
			return last, context.Cause(ctx)
		}
		if last.ok || last.status != 0 && !retryable(last.status) || n >= d.Retry {
			return last, nil
		}
		n++
		if n == 1 || n%10 == 0 {
			s.log.WarnContext(ctx, "delivery failed, will retry", "event_id", shown(ev.Attributes["id"]), "status", last.status, "retry", n)
		}
		s.metrics.retried.Inc()
		s.waits.Add(1)
		err := s.sleep(ctx, d.backoff(n))
		if s.waits.Add(-1); err != nil {
			return last, err
		}
	}
}

// post makes one request, after n others. A revoked partition does not cancel it: the data plane lets requests in flight finish, too.
func (s *sender) post(ctx context.Context, n int, ev Event, target string, timeout time.Duration) outcome {
	to, err := url.Parse(target)
	if err != nil {
		return outcome{}
	}
	ctx, span := trace.Start(ctx, trace.Client, http.MethodPost, "")
	defer span.End(nil)
	if header := trace.Header(ctx); header != "" { // the data plane, too, puts its own span in the place of the record's
		ev.Traceparent = header
	}
	span.Text("http.request.method", http.MethodPost)
	span.Text("server.address", to.Hostname())
	span.Text("url.path", to.Path)
	if n > 0 {
		span.Int("http.request.resend_count", n)
	}
	got, err := s.connections.post(to, requestHeader(ev, s.namespace), ev.Data, timeout)
	span.Int("http.response.status_code", got.status)
	switch {
	case err != nil:
		span.Fail("no_response")
		return outcome{}
	case got.status < 300:
		return outcome{ok: true, status: got.status}
	}
	span.Fail(strconv.Itoa(got.status))
	out := outcome{status: got.status, body: got.body, kne: map[string]string{}}
	for name, values := range got.header {
		if rest, found := strings.CutPrefix(strings.ToLower(name), "kne-"); found && len(values) > 0 {
			out.kne[rest] = values[0]
		}
	}
	return out
}
