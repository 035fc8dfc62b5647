package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// makeLetters stores letters of 2,000 causes and 500 symbols, spread over eleven days, without going through the topic.
const makeLetters = `
	insert into dead_letters (
		id, status, topic, partition, record_offset, recorded_at, exact, event_source, event_id, value_sha256, key, value, headers, attributes,
		content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, failure_count)
	select md5(i::text)::uuid, (array['open', 'open', 'open', 'resolved', 'resolved', 'discarded', 'sent'])[1 + i % 7], 'price-events', i % 12,
		1000000000 + i, now(), true, '/providers/yfinance', md5('event' || i), sha256(i::text::bytea), convert_to('S' || i % 500, 'UTF8'),
		convert_to(format('{"symbol":"S%s","price":"-%s","timestamp":"2026-01-01T00:00:00Z","provider":"yfinance","raw_response_id":"%s","batch":"batch-%s"}',
			i % 500, i, md5('raw' || i)::uuid, i / 100000), 'UTF8'),
		'[{"name":"ce_id","value":"YWJj"},{"name":"dlq-code","value":"aW52YWxpZF9wcmljZQ=="}]',
		'{"id":"x","source":"/providers/yfinance","type":"marketdata.price.observed.v1","time":"2026-01-01T00:00:00Z"}', 'application/json',
		(array['invalid_price', 'invalid_json', 'invalid_timestamp', 'unknown_member'])[1 + i % 4], 'cause ' || i % 2000,
		lpad(to_hex(i % 2000), 16, '0'), 'S' || i % 500, at, at, 1
	from generate_series($1::int, $2::int) i, lateral (select now() - i * interval '1 second' as at) t`

// indexLetters does what ticks do, but all at once.
const indexLetters = `
	with taken as (delete from dead_letters_to_index returning letter_id)
	insert into dead_letter_texts
	select id, dead_letter_text(code, reason, symbol, event_source, event_id, value)
	from dead_letters
	join taken on letter_id = id`

// listLetters measures every list of dead letters, every order of filters and every kind of search, one request at a time.
func (m *run) listLetters(ctx context.Context) error {
	const step = 50_000
	for first := 1; first <= m.listed; first += step {
		if _, err := m.pool.Exec(ctx, makeLetters, first, min(first+step-1, m.listed)); err != nil {
			return fmt.Errorf("store letters: %w", err)
		}
		if _, err := m.pool.Exec(ctx, indexLetters); err != nil {
			return fmt.Errorf("index letters: %w", err)
		}
	}
	for _, table := range []string{"dead_letters", "dead_letter_texts", "dead_letters_to_index", "dead_letter_counts", "dead_letter_hours"} { // as autovacuum does after a while
		if _, err := m.pool.Exec(ctx, "vacuum analyze "+table); err != nil {
			return fmt.Errorf("vacuum: %w", err)
		}
	}
	worst, slowest := time.Duration(0), ""
	for _, target := range []string{
		"/dlq/messages", "/dlq/messages?status=open", "/dlq/messages?status=replaying", "/dlq/messages?fingerprint=00000000000003e8",
		"/dlq/messages?fingerprint=00000000000003e8&status=discarded", "/dlq/messages?symbol=S42", "/dlq/messages?symbol=S42&status=sent",
		"/dlq/messages?topic=price-events", "/dlq/messages?topic=price-events&status=replaying", "/dlq/messages?symbol=NONE",
		"/dlq/messages?since=" + url.QueryEscape(time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)),
		"/dlq/messages?until=" + url.QueryEscape(time.Now().Add(-24*time.Hour).UTC().Format(time.RFC3339)),
		"/dlq/messages?q=yfinance", "/dlq/messages?q=%22S77%22", "/dlq/messages?q=no-such-text", "/dlq/messages?q=cause+17", "/dlq/messages?q=777",
		"/dlq/messages?q=batch-0", "/dlq/messages?q=batch-7", "/dlq/messages?q=invalid_json&status=discarded", "/dlq/messages?q=" + fmt.Sprintf("-%d%%22", m.listed/2),
		"/dlq/messages?q=00Z&symbol=S3", "/dlq/groups", "/dlq/groups?limit=1000", "/dlq/stats",
	} {
		took, err := m.list(ctx, target)
		if err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		m.say("  %6.1f ms  %s", float64(took)/float64(time.Millisecond), target)
		if took > worst {
			worst, slowest = took, target
		}
	}
	m.add(figure{
		what: fmt.Sprintf("lists, groups, counts and searches of %d letters: the slowest, GET %s", m.listed, slowest), value: float64(worst) / float64(time.Millisecond),
		unit: "ms", atMost: 100,
	})
	return nil
}

// list requests the first and the second page, each ten times, and returns the longest median.
func (m *run) list(ctx context.Context, target string) (time.Duration, error) {
	address, err := url.Parse(m.env[variable("dlq-inspector")] + target)
	if err != nil {
		return 0, fmt.Errorf("parse target: %w", err)
	}
	worst := time.Duration(0)
	for range 2 {
		var times []float64
		var next struct {
			Token *string `json:"next_page_token"`
		}
		for range 10 {
			began := time.Now()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
			if err != nil {
				return 0, err
			}
			req.Header.Set("Authorization", "Bearer "+m.env["DLQ_TOKEN"])
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return 0, err
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close() // read
			if err != nil || resp.StatusCode != http.StatusOK {
				return 0, fmt.Errorf("status %d: %s (%w)", resp.StatusCode, body, err)
			}
			times = append(times, float64(time.Since(began)))
			if err := json.Unmarshal(body, &next); err != nil {
				return 0, fmt.Errorf("answer: %w", err)
			}
		}
		worst = max(worst, time.Duration(median(times)))
		if next.Token == nil {
			break
		}
		query := address.Query()
		query.Set("page_token", *next.Token)
		address.RawQuery = query.Encode()
	}
	return worst, nil
}
