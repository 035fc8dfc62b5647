//go:build integration

package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/api"
)

// A request that is repeated after its job was deleted makes a new job.
func TestDeletingAJobDeletesItsIdempotencyKey(t *testing.T) {
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
	b.create(t, `{"symbols":["MSFT"]}`, "Idempotency-Key", "k") // a different request is no longer a conflict
}

// A text that cannot be an ID or a token never reaches the database.
func TestMalformedIDsAndTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t, `{"symbols":["AAPL"]}`)
	for _, odd := range []string{"\x00", "a\x00b", "poll_\x00", "\xff", "poll_" + strings.Repeat("\xff", 32), "poll_" + strings.Repeat("G", 32), id + "0", strings.ToUpper(id), "poll_é"} {
		path := "/prices/poll/" + url.PathEscape(odd)
		want, code := http.StatusNotFound, "job_not_found"
		if strings.Contains(odd, "\x00") || !utf8.ValidString(odd) { // not text
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
		for path, query := range map[string]api.Query{
			"/prices/poll": (&listRequest{}).query(), "/prices/poll/" + id + "/runs": (&runsRequest{ID: id}).query(),
		} {
			w := b.do(http.MethodGet, path+"?page_token="+api.Token(query, json.RawMessage(odd)), "")
			require.Equal(t, http.StatusBadRequest, w.Code, "%s %q: %s", path, odd, w.Body)
			require.Contains(t, w.Body.String(), "invalid_parameter")
		}
	}
	w := b.do(http.MethodPost, "/prices/poll", `{"symbols":["AAPL"]}`, "Idempotency-Key", "k\xff")
	require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
	require.Contains(t, w.Body.String(), "invalid_parameter")
}

// Kafka records that have the type of a tick are refused.
func TestRecordsAreNotTicks(t *testing.T) {
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
	require.Zero(t, b.ingest.Sweeps)
	require.Equal(t, http.StatusNoContent, b.do(http.MethodPost, "/", "{}", "X-Topic", "cron-function").Code)
	require.Equal(t, 1, b.ingest.Sweeps)
}

// Jobs and ticks work in every query mode of pgx, because a pooler may not allow all of them.
func TestEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			config := polltest.NewTables(t).Pool.Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			b := setupOn(t, polltest.Tables{Pool: pool})
			id := b.create(t, `{"symbols":["AAPL","BAD"],"interval":5}`, "Idempotency-Key", "k")
			b.create(t, `{"symbols":["AAPL"],"provider":"auto"}`)
			require.NoError(t, b.tick.Run(t.Context()))
			v := b.show(t, id)
			require.EqualValues(t, 1, v.Runs)
			require.Len(t, v.Results, 2)
			require.EqualValues(t, "1.5", v.Results[0].Price)
			require.Equal(t, http.StatusOK, b.do(http.MethodGet, "/prices/poll/"+id+"/runs?limit=1", "").Code)
			require.Equal(t, http.StatusOK, b.do(http.MethodGet, "/prices/poll?status=active&limit=1", "").Code)
			require.Equal(t, http.StatusOK, b.do(http.MethodPost, "/prices/poll/"+id+"/pause", "").Code)
			polls := store.New(pool)
			_, err = polls.DropRuns(t.Context(), time.Hour, 10)
			require.NoError(t, err)
			require.NoError(t, polls.Renew(t.Context(), [16]byte{1}, []string{id}, "yfinance", nil))
			require.NoError(t, polls.Remove(t.Context(), id))
		})
	}
}
