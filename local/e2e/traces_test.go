//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/collector"
)

// traced is a stack that exports its spans to this process.
type traced struct {
	*stack
	*collector.Collector
}

// traceparent returns a new trace: its ID, and the header of its caller's span.
func traceparent() (traceID, header string) {
	traceID = strings.ReplaceAll(uuid.NewString(), "-", "")
	return traceID, "00-" + traceID + "-00f067aa0ba902b7-01"
}

// name returns the name of a span with the topics' default names: a broker that was given may have others.
func (s traced) name(span collector.Span) string {
	topics := s.topics()
	return strings.NewReplacer(topics.DeadLetters, "price-events-dlq", topics.Events, "price-events").Replace(span.Name)
}

// span waits for a span of a service.
func (s traced) span(t *testing.T, traceID, service, name string) collector.Span {
	t.Helper()
	return s.Wait(t, service+" "+name+" of trace "+traceID, func(span collector.Span) bool {
		return span.TraceID == traceID && span.Service == service && s.name(span) == name
	})
}

// path returns the spans from the root of a trace to the given one.
func (s traced) path(t *testing.T, leaf collector.Span) (steps []string) {
	t.Helper()
	for span := leaf; ; {
		steps = append([]string{span.Service + " " + s.name(span)}, steps...)
		if span.Parent == "" || span.Parent == "00f067aa0ba902b7" {
			return steps
		}
		span = s.Wait(t, "the parent of "+span.Name, func(other collector.Span) bool { return other.ID == span.Parent })
		require.Equal(t, leaf.TraceID, span.TraceID)
	}
}

// toAverage is the way of an event from its topic to the transaction that computes the average.
var toAverage = []string{"sources process price-events", "sources POST", "compute-ma POST /{$}", "compute-ma commit"}

// The subtests share one stack and run in order.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := collector.Start(t)
	s := traced{start(t, newDir(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "PING_JITTER_SEED=0"), c}
	for _, sub := range []struct { //nolint:paralleltest // in order
		name string
		run  func(*testing.T, traced)
	}{
		{"from a price to its average", tracePrice},
		{"from a dead letter to its replay", traceLetter},
		{"from a tick to an average", traceTick},
		{"from a history to an average", traceBackfill},
		{"a transaction of many events", traceBatch},
		{"no secret", traceSecrets}, // of all spans
	} {
		t.Run(sub.name, func(t *testing.T) { sub.run(t, s) })
	}
}

func tracePrice(t *testing.T, s traced) {
	t.Helper()
	for _, provider := range []string{"yfinance", "alpha_vantage"} { // the latter has its key in the query
		traceID, header := traceparent()
		status, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL&provider="+provider, "", "Traceparent", header)
		require.Equal(t, http.StatusOK, status, string(body))
		commit := s.span(t, traceID, "compute-ma", "commit")
		require.Equal(t, append([]string{"get-latest GET /prices/latest", "get-latest fetch " + provider}, toAverage...), s.path(t, commit))
		require.NotEmpty(t, commit.Links)
		for _, name := range []string{"PIPELINE", "GET", "store quotes", "with", "send price-events"} {
			require.Equal(t, "get-latest GET /prices/latest", s.path(t, s.span(t, traceID, "get-latest", name))[0])
		}
		called := s.span(t, traceID, "get-latest", "GET")
		require.Equal(t, "127.0.0.1", called.Attributes["server.address"])
		require.NotContains(t, fmt.Sprint(called.Attributes), "?")
		require.Contains(t, s.out.String(), traceID, "log lines have the trace")
	}
}

func traceLetter(t *testing.T, s traced) {
	t.Helper()
	traceID, header := traceparent()
	bad := badPrice("TRACED", "1")
	s.produce(t, &kafka.Message{Value: []byte(bad), Headers: []kafka.Header{{Key: "traceparent", Value: []byte(header)}}})
	s.eventually(t, []string{"TRACED"}, "select symbol from dead_letters where status = 'open'")
	saved := s.span(t, traceID, "dlq-inspector", "save letters")
	require.Equal(t, append(append([]string{}, toAverage[:3]...), "sources process price-events-dlq", "sources POST", "dlq-inspector POST /{$}", "dlq-inspector save letters"),
		s.path(t, saved))

	requestTrace, header := traceparent()
	request, err := json.Marshal(map[string]string{"value": strings.Replace(bad, `"1"`, "1", 1), "reason": "a number"})
	require.NoError(t, err)
	status, body, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/dlq/messages/"+s.rows(t, "select id::text from dead_letters")[0]+"/replay", string(request),
		"Authorization", "Bearer "+s.env["DLQ_TOKEN"], "Content-Type", "application/json", "Traceparent", header)
	require.Equal(t, http.StatusOK, status, string(body))
	commit := s.span(t, traceID, "compute-ma", "commit")
	require.Equal(t, []string{"dlq-inspector replay", "dlq-inspector POST", "compute-ma POST /{$}", "compute-ma commit"}, s.path(t, commit))
	operator := s.span(t, requestTrace, "dlq-inspector", "POST /dlq/messages/{id}/replay")
	require.Equal(t, []string{requestTrace + "/" + operator.ID}, s.span(t, traceID, "dlq-inspector", "replay").Links)
}

func traceTick(t *testing.T, s traced) {
	t.Helper()
	status, body, header := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/prices/poll", `{"symbols":["IBM"],"interval":5}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusAccepted, status, string(body))
	commit := s.Wait(t, "an average of a tick", func(span collector.Span) bool {
		return span.Service == "compute-ma" && span.Name == "commit" && s.path(t, span)[0] == "sources poll-tick"
	})
	require.Equal(t, append([]string{"sources poll-tick", "poll POST /{$}", "poll fetch yfinance"}, toAverage...), s.path(t, commit))
	status, _, _ = call(t, http.MethodDelete, s.env["GATEWAY_URL"]+header.Get("Location"), "")
	require.Equal(t, http.StatusNoContent, status)
}

func traceBackfill(t *testing.T, s traced) {
	t.Helper()
	since := time.Now().UTC().AddDate(0, 0, -30).Format(time.DateOnly)
	s.backfill(t, fmt.Sprintf(`{"symbols":["MSFT"],"provider":"yfinance","interval":"1d","start":%q}`, since))
	commit := s.Wait(t, "an average of bars", func(span collector.Span) bool {
		return span.Service == "compute-ma" && span.Name == "commit" && len(s.path(t, span)) > 2 && s.path(t, span)[1] == "poll store bars"
	})
	path := s.path(t, commit)
	require.Contains(t, []string{"poll POST /prices/backfill", "poll POST /{$}"}, path[0])
	require.Equal(t, toAverage, path[2:])
}

// Events with traces of their own: each is linked to by the transaction that it was in.
func traceBatch(t *testing.T, s traced) {
	t.Helper()
	const n = 300
	var messages []*kafka.Message
	var traceIDs []string
	for i := range n {
		traceID, header := traceparent()
		m := event(fmt.Sprintf("BATCH%d", i%7), fmt.Sprint(i+1), time.Unix(int64(1_700_000_000+i), 0).UTC().Format(time.RFC3339), "test", uuid.New())
		m.Headers = []kafka.Header{{Key: "traceparent", Value: []byte(header)}}
		messages, traceIDs = append(messages, m), append(traceIDs, traceID)
	}
	s.produce(t, messages...)
	largest := 0
	for _, traceID := range traceIDs {
		commit := s.Wait(t, "a transaction with trace "+traceID, func(span collector.Span) bool {
			return span.Name == "commit" && strings.Contains(strings.Join(span.Links, " "), traceID)
		})
		largest = max(largest, len(commit.Links))
	}
	require.Greater(t, largest, 1)
}

func traceSecrets(t *testing.T, s traced) {
	t.Helper()
	database, err := url.Parse(s.env["DATABASE_URL"])
	require.NoError(t, err)
	password, _ := database.User.Password()
	secrets := []string{"local-key-no-secret", s.env["DLQ_TOKEN"], "apikey", password}
	for _, span := range s.Spans() {
		text := fmt.Sprint(span)
		for _, secret := range secrets {
			require.False(t, secret != "" && strings.Contains(text, secret), text)
		}
	}
}
