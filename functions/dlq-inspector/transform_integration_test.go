//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/deadletter"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// mend is the program for a producer that wrote prices as texts, of a lot of several, and times in milliseconds.
const mend = `.price = (.price | tonumber) / (.lot // 1) | .timestamp |= (. / 1000 | todate) | del(.lot)`

// text returns JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// broken returns the value of such a producer.
func broken(price string, lot int) []byte {
	return fmt.Appendf(nil, `{"symbol":"A","price":%q,"lot":%d,"timestamp":1711967400123,"source":"x","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`, price, lot)
}

const mended = `{"price":12345678901234567890.123456789012345678,"raw_response_id":"0190f5d8-0000-7000-8000-000000000001","source":"x","symbol":"A","timestamp":"2024-04-01T10:30:00.123Z"}`

// keepValue stores a letter with a value, and returns its path.
func (b bundle) keepValue(t *testing.T, symbol, contentType string, value []byte) string {
	t.Helper()
	l := letter.Letter{Value: value, ContentType: contentType}
	l.Attributes = map[string]string{"specversion": "1.0", "id": symbol, "source": "/s", "type": "marketdata.price.observed.v1"}
	l.Complete()
	l.Symbol = symbol
	b.keep(t, l, deadletter.Failure{Code: "invalid_price", Reason: "x", FailedAt: time.Now()})
	return "/dlq/messages/" + b.id(t, symbol)
}

// One letter is transformed, in binary or structured mode. The result is an edit.
func TestALetterIsTransformed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	value := broken("12345678901234567890.123456789012345678", 1)
	for symbol, path := range map[string]string{
		"BINARY":     b.keepValue(t, "BINARY", "application/json", value),
		"STRUCTURED": b.keepValue(t, "STRUCTURED", "application/cloudevents+json; charset=utf-8", fmt.Appendf(nil, `{"specversion":"1.0","id":"STRUCTURED","source":"/s","type":"t","data":%s}`, value)),
	} {
		status, l := b.do(t, http.MethodPost, path+"/replay", text(t, map[string]any{"transform": mend, "reason": "mended"}))
		require.Equal(t, http.StatusOK, status, l)
		require.Equal(t, "resolved", l["status"])
		require.Equal(t, mended, b.target.Value)
		require.Equal(t, "1", b.target.Got.Get("Ce-Correction"))
		require.Equal(t, symbol, b.target.Got.Get("Ce-Id"))
		require.Equal(t, 1, b.count(t, "select count(*) from dead_letter_audit where letter_id = $1 and value = $2", l["id"], mended))
	}
}

func TestTransformsOfOneLetterThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := b.keepValue(t, "A", "application/json", broken("10", 3))
	cut := b.keepValue(t, "CUT", "application/json", []byte("1234"))
	b.exec(t, `update dead_letters set headers = '[{"name":"dlq-value-bytes","value":"MTA="},{"name":"dlq-value-sha256","value":"YQ=="}]' where symbol = 'CUT'`)
	for name, c := range map[string]struct {
		path   string
		body   map[string]any
		code   string
		detail string
	}{
		"no program":           {path, map[string]any{"transform": ".a ||"}, "invalid_parameter", `unexpected token "|" (line 1, column 5)`},
		"a forbidden function": {path, map[string]any{"transform": "env"}, "invalid_parameter", "env/0 is not defined"},
		"lost digits":          {path, map[string]any{"transform": mend}, "inexact", "`(.price | tonumber) / (.lot // 1)` is not exact: 10 divided by 3"},
		"two results":          {path, map[string]any{"transform": "., ."}, "transform_failed", "more than one result"},
		"no event":             {path, map[string]any{"transform": "{}"}, "invalid_schema", "member"},
		"a value as well":      {path, map[string]any{"transform": ".", "value": "{}"}, "invalid_parameter", "not both"},
		"a topic":              {path, map[string]any{"transform": `{"symbol":"A","price":1,"timestamp":"2024-04-01T10:30:00Z","source":"x","raw_response_id":.raw_response_id}`, "target": "topic"}, "invalid_parameter", "a topic gets exact copies"},
		"half a value":         {cut, map[string]any{"transform": "."}, "transform_failed", "only the beginning of the value is stored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := b.do(t, http.MethodPost, c.path+"/replay", text(t, c.body))
			require.Equal(t, http.StatusBadRequest, status, answer)
			require.Equal(t, c.code, answer["code"])
			require.Contains(t, answer["detail"], c.detail)
			require.Empty(t, b.target.Paths)
		})
	}
	for name, body := range map[string]map[string]any{
		"no program": {"transform": ".a ||"},
		"a topic":    {"transform": ".", "target": "topic"},
		"too long":   {"transform": strings.Repeat(" ", 10_001)},
	} {
		t.Run("of many: "+name, func(t *testing.T) {
			t.Parallel()
			status, answer := b.do(t, http.MethodPost, "/dlq/replays", text(t, body))
			require.Equal(t, http.StatusBadRequest, status, answer)
			require.Equal(t, "invalid_parameter", answer["code"])
		})
	}
}

// A plan has a verdict on each letter and shows some of them before and after. The replay skips the same letters, which do not change.
func TestAPlanHasAVerdictOnEachLetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 12 {
		b.keepValue(t, fmt.Sprint("GOOD", i), "application/json", broken("12345678901234567890.123456789012345678", 1))
	}
	b.keepValue(t, "THIRD", "application/json", broken("10", 3))
	b.keepValue(t, "NOJSON", "application/json", []byte{0xFF})
	b.keepValue(t, "NEGATIVE", "application/json", broken("-1", 1))
	b.target.Set(200, `{"verdict":"applied"}`)
	order := map[string]any{"transform": mend, "dry_run": true, "rate_per_second": 1000}
	plan := b.bulkWork(t, "/dlq/replays", text(t, order))
	require.Equal(t, "completed", plan.Status)
	require.Equal(t, mend, plan.Transform)
	want := map[string]int64{"resolved": 12, "skipped": 3, "refused": 0, "sent": 0}
	reasons := map[string]int64{"inexact": 1, "transform_failed": 1, "invalid_price": 1}
	require.Equal(t, want, plan.Outcomes)
	require.Equal(t, reasons, plan.Reasons)
	require.Equal(t, "1", b.target.Got.Get("Ce-Correction"))
	require.Len(t, plan.Samples, replay.MaxSamples)
	require.Equal(t, mended, *plan.Samples[0].After)
	require.Equal(t, "resolved", plan.Samples[0].Verdict)
	require.Equal(t, 15, b.count(t, "select count(*) from dead_letters where status = 'open' and correction = 0"))

	verdicts := func(path string) (all []any) {
		for next := ""; ; {
			status, page := b.do(t, http.MethodGet, path+next, "")
			require.Equal(t, http.StatusOK, status, page)
			some, _ := page["verdicts"].([]any)
			all = append(all, some...)
			if page["next_page_token"] == nil {
				return all
			}
			next = fmt.Sprint("&page_token=", page["next_page_token"])
		}
	}
	require.Len(t, verdicts("/dlq/replays/"+plan.ID.String()+"/verdicts?limit=4"), 15)
	inexact := []any{map[string]any{
		"id": b.id(t, "THIRD"), "verdict": "skipped", "code": "inexact", "reason": "`(.price | tonumber) / (.lot // 1)` is not exact: 10 divided by 3 has digits without end",
	}}
	require.Equal(t, inexact, verdicts("/dlq/replays/"+plan.ID.String()+"/verdicts?code=inexact"))
	require.Len(t, verdicts("/dlq/replays/"+plan.ID.String()+"/verdicts?verdict=skipped&limit=2"), 3)
	require.Equal(t, inexact, verdicts("/dlq/replays/"+plan.ID.String()+"/verdicts?verdict=skipped&code=inexact"))
	require.Empty(t, verdicts("/dlq/replays/"+plan.ID.String()+"/verdicts?verdict=resolved&code=inexact"))

	b.target.Set(204, "")
	order["dry_run"] = false
	v := b.bulkWork(t, "/dlq/replays", text(t, order))
	require.Equal(t, want, v.Outcomes)
	require.Equal(t, reasons, v.Reasons)
	require.Equal(t, inexact, verdicts("/dlq/replays/"+v.ID.String()+"/verdicts?code=inexact"))
	require.Len(t, verdicts("/dlq/replays/"+v.ID.String()+"/verdicts?limit=100"), 3)
	require.Equal(t, 12, b.count(t, `select count(*) from dead_letters l join dead_letter_audit a on a.letter_id = l.id
		where status = 'resolved' and correction = 1 and a.action = 'replay' and a.value = $1
			and (a.before->>'correction')::integer = 0 and (a.after->>'correction')::integer = 1`, mended))
	require.Equal(t, 3, b.count(t, "select count(*) from dead_letters where status = 'open' and correction = 0 and replay_count = 0"))

	b.exec(t, "update dead_letter_verdicts set replay_id = '0190f5d8-0000-7000-8000-000000000001' where replay_id = $1", plan.ID)
	b.tick(t)
	require.Equal(t, 3, b.count(t, "select count(*) from dead_letter_verdicts"), "old ones are deleted")
	status, answer := b.do(t, http.MethodGet, "/dlq/replays/0190f5d8-0000-7000-8000-000000000001/verdicts", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "replay_not_found", answer["code"])
}

// The letters of a producer that wrote prices as texts and times in milliseconds are planned, transformed, replayed and resolved by the
// built programs, exact to the last digit. One in a hundred cannot keep its digits, and is skipped by name.
func TestLettersOfABrokenProducerAreTransformed(t *testing.T) {
	t.Parallel()
	n := testenv.Size(t, "E2E_TRANSFORM", 2300)
	database := testenv.PostgresURL(t)
	pool, err := postgres.Open(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	services := append(testenv.Kafka(t).Environ(), "DATABASE_URL="+database)
	function := startProgram(t, "compute-ma", services...)
	inspector := startProgram(t, "dlq-inspector", append(services, "COMPUTE_MA_URL="+function.url, "DLQ_TOKEN=secret")...)
	_, err = pool.Exec(t.Context(), `
		insert into dead_letters (id, exact, event_source, event_id, value_sha256, value, headers, attributes, content_type, code, reason, fingerprint, first_failed_at, last_failed_at)
		select gen_random_uuid(), false, '/s', i::text, sha256(i::text::bytea),
			convert_to(format('{"symbol":"S%s","price":"%s.%s","lot":%s,"timestamp":%s,"source":"x","raw_response_id":"0190f5d8-0000-7000-8000-%s"}',
				i % 50, 12345678901234560000 + i, 123456789012300000 + i, case when i % 100 = 0 then 1000000007 else 1 end, 1711967400000 + i, lpad(i::text, 12, '0')), 'UTF8'),
			'[]', jsonb_build_object('specversion', '1.0', 'id', i::text, 'source', '/s', 'type', 'marketdata.price.observed.v1'),
			'application/json', 'x', 'x', 'x', now(), now()
		from generate_series(1, $1) i`, n)
	require.NoError(t, err)
	header := http.Header{"Authorization": {"Bearer secret"}, "Content-Type": {"application/json"}}
	work := func(dryRun bool) (v operators.BulkBody, took time.Duration) {
		began := time.Now()
		status, answer := inspector.post(t, "/dlq/replays", text(t, map[string]any{"transform": mend, "dry_run": dryRun, "rate_per_second": 10000}), header)
		require.Equal(t, http.StatusAccepted, status, answer)
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint(inspector.url, "/dlq/replays/", answer["id"]), nil)
			require.NoError(t, err)
			req.Header = header
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close() //nolint:errcheck // read whole
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&v))
			return v.Status != "running"
		}, 3*time.Minute, 100*time.Millisecond)
		return v, time.Since(began)
	}
	plan, planned := work(true)
	v, replayed := work(false)
	t.Logf("%d letters planned in %s and replayed in %s", n, planned.Round(time.Millisecond), replayed.Round(time.Millisecond))
	want := map[string]int64{"resolved": int64(n - n/100), "skipped": int64(n / 100), "refused": 0, "sent": 0}
	for _, done := range []operators.BulkBody{plan, v} {
		require.Equal(t, "completed", done.Status)
		require.Equal(t, want, done.Outcomes)
		require.Equal(t, map[string]int64{"inexact": int64(n / 100)}, done.Reasons)
	}
	count := func(q string) (count int) {
		require.NoError(t, pool.QueryRow(t.Context(), q).Scan(&count))
		return count
	}
	require.Equal(t, n-n/100, count(`
		select count(*) from generate_series(1, (select count(*) from dead_letters)) i
		join price_points p on p.symbol = 'S' || i % 50 and p.observed_at = timestamptz '2024-04-01 10:30:00Z' + i * interval '1 millisecond'
			and p.price = format('%s.%s', 12345678901234560000 + i, 123456789012300000 + i)::numeric`))
	require.Equal(t, n-n/100, count("select count(*) from price_points"))
	require.Equal(t, n/100, count("select count(*) from dead_letters where status = 'open' and correction = 0"))
	require.Equal(t, n, count("select count(*) from dead_letter_verdicts where replay_id = (select id from dead_letter_replays where dry_run)"))
	require.Equal(t, n/100, count("select count(*) from dead_letter_verdicts where code = 'inexact' and reason like '%divided by 1000000007 has digits without end' and replay_id = (select id from dead_letter_replays where dry_run)"))
}
