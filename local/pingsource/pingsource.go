// Package pingsource emulates Knative's PingSource: it posts a CloudEvent to a sink on a cron schedule (knative/eventing
// pkg/adapter/mtping). Ticks are not persisted: a tick that is missed, or fails after all retries, is lost.
package pingsource

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/robfig/cron/v3"

	"marketdata/shared/trace"
)

// Spec is a PingSource with its references resolved.
type Spec struct {
	Name, Namespace string
	Schedule        string // 5 fields, or 6 with seconds; descriptors such as @hourly; never @every
	Timezone        string // IANA name; empty: UTC
	ContentType     string // of the data; an event without data has none
	Data            []byte // empty: an event without data
	Extensions      map[string]string
	Sink            string // URL
	JitterSeed      uint64 // of the delays of 0 to 499 ms before each send; the same seed gives the same delays. 0: no delays
	Tracing         *trace.Tracing
}

// parser accepts the same fields as Knative's adapter.
var parser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Source ticks until closed.
type Source struct {
	spec     Spec
	schedule cron.Schedule
	client   *http.Client
	jitter   *rand.Rand // used by run alone; nil: none
	log      *slog.Logger
	cancel   context.CancelFunc
	sends    sync.WaitGroup
	done     chan struct{}
	life     context.Context //nolint:containedctx // of requests in flight
	abandon  context.CancelFunc
}

// closeGrace is how long a request in flight may take once the source closes. Cutting it is harmless, because ticks are idempotent.
const closeGrace = time.Second

// Parse parses a schedule.
func Parse(schedule, timezone string) (cron.Schedule, error) {
	if timezone == "" {
		timezone = "UTC"
	}
	text := "CRON_TZ=" + timezone + " " + schedule
	if strings.Contains(text, "@every") { // the parser ignores spaces before it
		return nil, fmt.Errorf("schedule %q: @every is not allowed", schedule)
	}
	s, err := parser.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", schedule, err)
	}
	return s, nil
}

// Start begins to tick.
func Start(spec Spec, log *slog.Logger) (*Source, error) { return start(spec, log, &http.Client{}) }

func start(spec Spec, log *slog.Logger, client *http.Client) (*Source, error) {
	schedule, err := Parse(spec.Schedule, spec.Timezone)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Source{spec: spec, schedule: schedule, client: client, log: log.With("source", spec.Name), cancel: cancel, done: make(chan struct{})}
	if spec.JitterSeed != 0 { // sources of one stack must not wait alike
		name := fnv.New64a()
		_, _ = io.WriteString(name, spec.Namespace+"/"+spec.Name) // cannot fail
		s.jitter = rand.New(rand.NewPCG(spec.JitterSeed, name.Sum64()))
	}
	s.life, s.abandon = context.WithCancel(context.Background())
	go s.run(ctx)
	return s, nil
}

// Close stops ticking and gives requests in flight a short time to finish. It cuts waits between retries short.
func (s *Source) Close() {
	s.cancel()
	<-s.done
	late := time.AfterFunc(closeGrace, s.abandon)
	defer late.Stop()
	s.sends.Wait()
	s.abandon()
}

func (s *Source) run(ctx context.Context) {
	defer close(s.done)
	for {
		next := s.schedule.Next(time.Now())
		if next.IsZero() {
			s.log.WarnContext(ctx, "schedule never comes", "schedule", s.spec.Schedule)
			return
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		delay := time.Duration(0)
		if s.jitter != nil {
			delay = time.Duration(s.jitter.IntN(500)) * time.Millisecond
		}
		// As in Knative, a tick does not wait for the previous one; the sink has to handle overlap.
		s.sends.Go(func() { s.tick(ctx, delay) })
	}
}

func (s *Source) tick(ctx context.Context, delay time.Duration) {
	if !wait(ctx, delay) {
		return
	}
	header := http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {uuid.NewString()}, "Ce-Type": {"dev.knative.sources.ping"},
		"Ce-Source": {"/apis/v1/namespaces/" + s.spec.Namespace + "/pingsources/" + s.spec.Name},
		"Ce-Time":   {time.Now().UTC().Format(time.RFC3339Nano)}, "Kn-Namespace": {s.spec.Namespace},
	}
	if s.spec.ContentType != "" && len(s.spec.Data) > 0 {
		header.Set("Content-Type", s.spec.ContentType)
	}
	for name, value := range s.spec.Extensions {
		header.Set("Ce-"+name, value)
	}
	ctx, span := s.spec.Tracing.Start(ctx, trace.Producer, "", s.spec.Name, "")
	defer span.End(nil)
	if traceparent := trace.Header(ctx); traceparent != "" {
		header.Set("Traceparent", traceparent)
	}
	// As in sdk-go: up to five retries after 100, 200, … 1600 ms, with the same id.
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		status := s.post(header)
		if status >= 200 && status < 300 {
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !retryable(status) || pause > 1600*time.Millisecond {
			span.Fail(strconv.Itoa(status))
			s.log.WarnContext(ctx, "tick lost", "status", status)
			return
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

// retryable reports whether sdk-go retries a status; 0 is a transport error. It does not retry 500.
func retryable(status int) bool {
	switch status {
	case 0, 404, 413, 425, 429, 502, 503, 504:
		return true
	}
	return false
}

func (s *Source) post(header http.Header) int {
	ctx, cancel := context.WithTimeout(s.life, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.spec.Sink, bytes.NewReader(s.spec.Data))
	if err != nil {
		return 0
	}
	req.Header = header.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // the body is not used
	return resp.StatusCode
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
