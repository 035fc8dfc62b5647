//go:build integration

package main

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres"
)

// A request that is repeated after its job was deleted makes a new job: its key went with the job.
func TestAnIdempotencyKeyGoesWithItsJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const body = `{"symbols":["AAPL"]}`
	first := b.create(t, body, "Idempotency-Key", "k")
	require.Equal(t, first, b.create(t, body, "Idempotency-Key", "k"))
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/prices/poll/"+first, "").Code)
	second := b.create(t, body, "Idempotency-Key", "k")
	require.NotEqual(t, first, second)
	require.Equal(t, "active", b.show(t, second).Status)
	require.Equal(t, second, b.create(t, body, "Idempotency-Key", "k"))
	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/prices/poll/"+second, "").Code)
	b.create(t, `{"symbols":["MSFT"]}`, "Idempotency-Key", "k") // another request is no conflict then
}

// Texts that no id or token of ours can have are answered by the route, not by the database.
func TestOddIDsAndTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"]}`)
	for _, odd := range []string{"\x00", "a\x00b", "poll_\x00", "\xff", "poll_" + strings.Repeat("\xff", 32), "poll_" + strings.Repeat("G", 32), id + "0", strings.ToUpper(id), "poll_é"} {
		path := "/prices/poll/" + url.PathEscape(odd)
		want, code := http.StatusNotFound, "job_not_found"
		if strings.Contains(odd, "\x00") || !utf8.ValidString(odd) { // no text at all
			want, code = http.StatusBadRequest, "invalid_parameter"
		}
		for target, method := range map[string]string{path: http.MethodGet, path + "/runs": http.MethodGet, path + "/pause": http.MethodPost, path + "/resume": http.MethodPost} {
			w := b.do(method, target, "")
			require.Equal(t, want, w.Code, "%s %q: %s", method, odd, w.Body)
			require.Contains(t, w.Body.String(), code)
		}
		require.Equal(t, want, b.do(http.MethodDelete, path, "").Code, "%q", odd)
	}
	for _, odd := range []string{`"\u0000"`, `"poll_\u0000"`, `"x"`, `5`, `null`, "\"\xff\"", `"` + id + `\u0000"`} {
		for _, path := range []string{"/prices/poll", "/prices/poll/" + id + "/runs"} {
			w := b.do(http.MethodGet, path+"?page_token="+base64.RawURLEncoding.EncodeToString([]byte(odd)), "")
			require.Equal(t, http.StatusBadRequest, w.Code, "%s %q: %s", path, odd, w.Body)
			require.Contains(t, w.Body.String(), "invalid_parameter")
		}
	}
	w := b.do(http.MethodPost, "/prices/poll", `{"symbols":["AAPL"]}`, "Idempotency-Key", "k\xff")
	require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
	require.Contains(t, w.Body.String(), "invalid_parameter")
}

// A record that says of itself that it is a tick is none.
func TestARecordIsNoTick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, `{"symbols":["AAPL"]}`)
	tick := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "dev.knative.sources.ping"}
	for name, place := range map[string][]string{
		"offset": {"Ce-Knativekafkaoffset", "5"}, "partition": {"Ce-Knativekafkapartition", "0"}, "topic": {"Ce-Kafkatopic", "price-events"},
		"connector's record": {"X-Topic", "cron-function", "X-Kafka-Offset", "5"},
	} {
		w := b.do(http.MethodPost, "/", "{}", append(place, tick...)...)
		require.Equal(t, http.StatusUnprocessableEntity, w.Code, "%s: %s", name, w.Body)
		require.Contains(t, w.Body.String(), "invalid_type")
	}
	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"dev.knative.sources.ping","knativekafkaoffset":"5"}`
	require.Equal(t, http.StatusUnprocessableEntity, b.do(http.MethodPost, "/", structured, "Content-Type", "application/cloudevents+json").Code)
	require.Equal(t, http.StatusUnprocessableEntity, b.do(http.MethodPost, "/", "{}", "X-Topic", "cron-function", "X-Kafka-Offset", "5").Code)
	require.Zero(t, b.ingest.sweeps)
	require.Equal(t, http.StatusNoContent, b.do(http.MethodPost, "/", "{}", "X-Topic", "cron-function").Code)
	require.Equal(t, 1, b.ingest.sweeps)
}

// Ticks drop runs older than RUNS_RETENTION, in batches.
func TestOldRunsAreDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"]}`)
	b.exec(t, `
		insert into polling_runs (job_id, scheduled_at, finished_at, failed)
		select $1, now() - i * interval '1 minute', now() - i * interval '1 minute', 0 from generate_series(1, $2) i`, id, 24*60+2*runsBatch)
	require.NoError(t, b.tick.run(t.Context()))
	require.Equal(t, 24*60, b.runs(t, id), "a day's runs, the one of this tick among them")
	require.Zero(t, b.count(t, "select count(*) from polling_runs where finished_at < now() - interval '24 hours'"))
}

// Jobs and ticks work in every way in which pgx can talk to Postgres: behind a pooler not all of them are to be had.
func TestEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			config := b.store.pool.Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			b.store.pool = pool
			id := b.create(t, `{"symbols":["AAPL","BAD"],"interval":5}`, "Idempotency-Key", "k")
			b.create(t, `{"symbols":["AAPL"],"provider":"auto"}`)
			require.NoError(t, b.tick.run(t.Context()))
			v := b.show(t, id)
			require.EqualValues(t, 1, v.Runs)
			require.Len(t, v.Results, 2)
			require.EqualValues(t, "1.5", v.Results[0].Price)
			require.Equal(t, http.StatusOK, b.do(http.MethodGet, "/prices/poll/"+id+"/runs?limit=1", "").Code)
			require.Equal(t, http.StatusOK, b.do(http.MethodGet, "/prices/poll?status=active&limit=1", "").Code)
			require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/pause", "").Code)
			_, err = b.store.dropRuns(t.Context(), time.Hour, 10)
			require.NoError(t, err)
			require.NoError(t, b.store.renew(t.Context(), [16]byte{1}, []string{id}, "yfinance", nil))
			require.NoError(t, postgres.Classify(b.store.remove(t.Context(), id)))
		})
	}
}
