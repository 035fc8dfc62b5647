package load

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"marketdata/shared/testenv/wire"
)

// floods lists the routes.
func (m *run) floods() []flooded {
	const asJSON = "Content-Type: application/json"
	var at atomic.Int64 // each request makes something new, also over all rounds
	get := func(function, name, path string, headers ...string) flooded {
		target := m.env[variable(function)] + path
		return flooded{name: name, function: function, next: func(int) []byte {
			return wire.Request("GET", target, nil, append([]string{m.clients.next()}, headers...)...)
		}}
	}
	post := func(function, name, path string, body func(n int) ([]byte, []string), kept string) flooded {
		target := m.env[variable(function)] + path
		return flooded{name: name, function: function, kept: m.rows(kept), next: func(int) []byte {
			b, headers := body(int(at.Add(1)))
			return wire.Request("POST", target, b, append(headers, m.clients.next())...)
		}}
	}
	token := "Authorization: Bearer " + m.env["DLQ_TOKEN"]
	misses := m.env[variable("get-latest")] + "/prices/latest?provider=yfinance&symbol=LOAD"
	search := get("dlq-inspector", "search", "/dlq/messages?q=event+77", token)
	search.prepare = func(ctx context.Context) error { // the letters before, all at once; ticks take their time
		if _, err := m.pool.Exec(ctx, indexLetters); err != nil {
			return fmt.Errorf("index letters: %w", err)
		}
		return nil
	}
	routes := append([]flooded{
		post("compute-ma", "events", "/", func(n int) ([]byte, []string) { e := newEvent("FLOOD", n); return e.value, e.lines() },
			"select count(*) from price_points where symbol like 'FLOOD%'"),
		get("compute-ma", "newest average", "/averages/latest?symbol=FLOOD1&provider=yfinance&window=5"),
		get("compute-ma", "history of averages", "/averages/history?symbol=FLOOD1&provider=yfinance&window=5&limit=100"),
		get("compute-ma", "series", "/averages/series?limit=100"),
		{name: "streams", function: "compute-ma", measure: m.floodStreams},
		get("get-latest", "price, cached", "/prices/latest?symbol=AAPL&provider=yfinance"),
		{name: "price, fetched", function: "get-latest", next: func(int) []byte {
			return wire.Request("GET", misses+strconv.FormatInt(at.Add(1)%floodSymbols, 10), nil, m.clients.next())
		}, kept: m.rows("select (select count(*) from raw_responses where symbol like 'LOAD%') - (select count(*) from outbox)")}, // stored and published
		get("get-latest", "history of prices", "/prices/history?symbol=AAPL&provider=yfinance&limit=100"),
		post("poll", "new job", "/prices/poll", func(int) ([]byte, []string) {
			return []byte(`{"symbols":["AAPL"],"interval":86400,"provider":"yfinance"}`), []string{asJSON}
		}, "select count(*) from polling_jobs"),
		get("poll", "jobs", "/prices/poll?limit=20"),
	}, m.jobFloods()...)
	routes = append(routes,
		post("dlq-inspector", "dead letters", "/", func(n int) ([]byte, []string) { return []byte("no event " + strconv.Itoa(n)), nil },
			"select count(*) from dead_letters"),
		get("dlq-inspector", "me", "/dlq/me", token),
		get("dlq-inspector", "letters", "/dlq/messages?limit=20", token),
		get("dlq-inspector", "causes", "/dlq/groups", token),
		get("dlq-inspector", "counts", "/dlq/stats", token),
		search,
	)
	routes = append(routes, m.letterFloods(token)...)
	routes = append(routes, // last: it takes a while until the backfills are done
		post("poll", "new backfill", "/prices/backfill", func(n int) ([]byte, []string) {
			return fmt.Appendf(nil, `{"symbols":["LOAD%d"],"interval":"1d","provider":"yfinance","start":"2024-03-01","end":"2024-03-20"}`, n%floodSymbols), []string{asJSON}
		}, "select count(*) from backfills where exists (select from backfill_series where backfill_id = id)"),
		get("poll", "backfills", "/prices/backfill?limit=20"),
	)
	routes = append(routes, m.backfillFloods()...)
	for i := range routes {
		if name := routes[i].name; name == "events" || name == "dead letters" {
			routes[i].alone = 200 // those in flight share a transaction
		}
	}
	return routes
}

// rows returns a function that runs a query for a count.
func (m *run) rows(query string) func(ctx context.Context) (int, error) {
	return func(ctx context.Context) (n int, err error) {
		if err := m.pool.QueryRow(ctx, query).Scan(&n); err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		return n, nil
	}
}
