package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
)

func BenchmarkDecode(b *testing.B) {
	now := time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := priceevent.Decode([]byte(good), 0, now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvent is what the function itself spends on an event, from the parsed request to the answer: everything but
// net/http and the database.
func BenchmarkEvent(b *testing.B) {
	log := slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // the formatting of the line is part of the cost
	srv := service.New(service.Config{}, log)
	events := &fakeStore{effect: store.Effect{Outcome: store.Inserted}}
	(&receiver{
		events: events, rehearsals: events, deadLetters: &fakeDLQ{}, maxBytes: 1 << 20, log: log,
		now: func() time.Time { return time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC) }, metrics: newMetrics(srv.Metrics),
	}).routes(srv.Mux)
	header := http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"0190f5d8-0000-7000-8000-000000000001:AAPL:1710930600123456"}, "Ce-Source": {"/providers/yfinance"},
		"Ce-Type": {priceevent.Type}, "Ce-Subject": {"AAPL"}, "Ce-Partitionkey": {"AAPL"}, "Ce-Time": {"2024-03-20T10:30:00.123456Z"},
		"Content-Type": {"application/json"}, "Ce-Kafkatopic": {"price-events"}, "Ce-Knativekafkapartition": {"3"}, "Ce-Knativekafkaoffset": {"17"},
	}
	served := srv.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(good))
		r.Header = header
		w := httptest.NewRecorder()
		served.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
		events.applied = events.applied[:0]
	}
}
