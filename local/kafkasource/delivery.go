package kafkasource

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Delivery is spec.delivery as the control plane resolves it.
type Delivery struct {
	Retry          int           // retries after the first attempt
	Exponential    bool          // else linear
	BackoffDelay   time.Duration // unit of the delays
	Timeout        time.Duration // for one request
	DeadLetterSink string        // URL; empty: none, and what fails is lost
}

// backoff is the delay before retry n, counted from 1: linear delay·n, exponential delay·2^n; no jitter, no cap.
func (d Delivery) backoff(n int) time.Duration {
	if d.Exponential {
		return d.BackoffDelay << min(n, 40)
	}
	return d.BackoffDelay * time.Duration(n)
}

// retryable is isRetryableStatusCode: everything else that is no success goes to the dead letter sink at once.
func retryable(status int) bool {
	return status >= 500 || status == 404 || status == 408 || status == 409 || status == 429
}

// outcome is what the last attempt came to.
type outcome struct {
	ok     bool
	status int // 0: no answer
	body   []byte
	kne    map[string]string // the answer's Kne-* headers, prefix stripped, lower-cased
}

// sender posts events.
type sender struct {
	connections *connections
	namespace   string
	log         *slog.Logger
	sleep       func(ctx context.Context, d time.Duration) error
}

func newSender(namespace string, log *slog.Logger) *sender {
	return &sender{connections: newConnections(), namespace: namespace, log: log, sleep: sleep}
}

// abandon cuts requests under way, and idle connections: one opened but never used would hold up the sink's shutdown for 5 s.
func (s *sender) abandon() { s.connections.close() }

// shown bounds what a log line says of an event: ids come from outside, and may have any length.
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

// deliver sends ev to the sink, through the whole retry ladder, then to the dead letter sink. It returns nil once the
// record is done with, also if it was lost for want of a dead letter sink, as the data plane does; an error means that
// ctx ended first, and the record must be delivered again.
func (s *sender) deliver(ctx context.Context, ev Event, sink string, d Delivery) error {
	last, err := s.attempts(ctx, ev, sink, d)
	if err != nil || last.ok {
		return err
	}
	if d.DeadLetterSink == "" {
		s.log.ErrorContext(ctx, "event lost: no dead letter sink set", "event_id", shown(ev.Attributes["id"]), "status", last.status)
		return nil
	}
	dead, err := s.attempts(ctx, enriched(ev, sink, last), d.DeadLetterSink, d)
	if err == nil && !dead.ok {
		s.log.ErrorContext(ctx, "event lost: the dead letter sink refused it", "event_id", shown(ev.Attributes["id"]), "status", dead.status)
	}
	return err
}

// enriched adds what a dead letter carries (RecordDispatcherImpl): knativeerrordest always, knativeerrorcode and
// knativeerrordata (base64 of the body's first 1024 bytes) where there was an answer, and its Kne-* headers.
func enriched(ev Event, sink string, last outcome) Event {
	ev.Attributes = maps.Clone(ev.Attributes)
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
		last := s.post(ev, target, d.Timeout)
		if !last.ok && ctx.Err() != nil {
			return last, context.Cause(ctx)
		}
		if last.ok || last.status != 0 && !retryable(last.status) || n >= d.Retry {
			return last, nil
		}
		n++
		if n == 1 || n%10 == 0 {
			s.log.WarnContext(ctx, "delivery failed, trying again", "event_id", shown(ev.Attributes["id"]), "status", last.status, "retry", n)
		}
		if err := s.sleep(ctx, d.backoff(n)); err != nil {
			return last, err
		}
	}
}

// post makes one request. It does not end with its partition's assignment: the data plane lets a call under way finish, too.
func (s *sender) post(ev Event, target string, timeout time.Duration) outcome {
	to, err := url.Parse(target)
	if err != nil {
		return outcome{}
	}
	got, err := s.connections.post(to, requestHeader(ev, s.namespace), ev.Data, timeout)
	switch {
	case err != nil:
		return outcome{}
	case got.status < 300:
		return outcome{ok: true, status: got.status}
	}
	out := outcome{status: got.status, body: got.body, kne: map[string]string{}}
	for name, values := range got.header {
		if rest, found := strings.CutPrefix(strings.ToLower(name), "kne-"); found && len(values) > 0 {
			out.kne[rest] = values[0]
		}
	}
	return out
}
