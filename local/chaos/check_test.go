package chaos

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// healthy returns a checker of a system in which everything is right: seven events of a series, one point of which is corrected, and a
// poison record that a replay has corrected.
func healthy(t *testing.T) *checker {
	t.Helper()
	began := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	e := &events{began: began}
	id := func(n byte) uuid.UUID { return uuid.UUID{15: n} }
	c := &checker{book: newBook(), market: newMarket(1), faultsEnd: began, facts: facts{
		now: began, points: map[pointKey]point{}, averages: map[average]averageRow{}, ids: map[string][]string{}, left: map[string]int{},
	}}
	put := func(r *kgo.Record) {
		r.Offset = int64(len(c.events))
		c.events, c.produced = append(c.events, r), append(c.produced, r)
	}
	for i, price := range []string{"10", "20", "30", "40", "50", "6000", "60"} {
		at, correction := began.Add(time.Duration(min(i, 5))*time.Second), i/6
		e.n++
		put(e.record("EVENT0", price, at, id(byte(i)), correction))
		c.points[pointKey{"EVENT0", eventProvider, at.UnixMicro()}] = point{number(price).rat(), price, id(byte(i)), correction}
	}
	e.n++
	poison := e.poison(fixSymbol, fmt.Sprintf(`{"symbol":%q,"price":"1.25","timestamp":%q,"source":%q,"raw_response_id":%q}`,
		fixSymbol, began.Format(time.RFC3339), eventProvider, id(9)))
	put(poison)
	c.points[pointKey{fixSymbol, eventProvider, began.UnixMicro()}] = point{number("1.25").rat(), "1.25", id(9), 1}
	headers := "["
	for i, h := range poison.Headers {
		headers += fmt.Sprintf(`%.*s{"name":%q,"value":%q}`, min(i, 1), ",", h.Key, base64.StdEncoding.EncodeToString(h.Value))
	}
	c.inspected = []letterRow{{record: *poison, status: "resolved", exact: true, headers: headers + "]", code: "invalid_price"}}
	letter := &kgo.Record{Topic: lettersTopic, Value: poison.Value, Headers: []kgo.RecordHeader{
		{Key: "dlq-topic", Value: []byte(eventsTopic)}, {Key: "dlq-partition", Value: []byte("0")}, {Key: "dlq-offset", Value: []byte("7")},
	}}
	c.letters = []*kgo.Record{letter}
	last := began.Add(5 * time.Second)
	for _, window := range windows {
		used, text, oldest := 6, "35", began
		if window == 5 {
			used, text, oldest = 5, "40", began.Add(time.Second)
		}
		c.averages[average{"EVENT0", eventProvider, window}] = averageRow{text, used, window == 5, last.UnixMicro(), oldest.UnixMicro()}
		c.averages[average{fixSymbol, eventProvider, window}] = averageRow{"1.25", 1, false, began.UnixMicro(), began.UnixMicro()}
	}
	s := state{Symbol: "EVENT0", Price: "60", AsOf: last}
	for _, window := range windows {
		r := c.averages[average{"EVENT0", eventProvider, window}]
		s.Averages = append(s.Averages, averageState{window, number(r.text), r.used, r.complete})
	}
	c.streamed["EVENT0"] = s
	c.market.served = []answerOfProvider{{"binance", "/api/v3/ticker/price?symbol=BTCUSDT", map[string]bool{"71333.65": true}}}
	e.n++
	quoted := e.event("BTCUSDT", goodSource, fmt.Sprintf(`{"symbol":"BTCUSDT","price":71333.65,"timestamp":%q,"source":"binance","raw_response_id":%q}`,
		began.Format(time.RFC3339), id(10)))
	put(quoted)
	c.points[pointKey{"BTCUSDT", "binance", began.UnixMicro()}] = point{number("71333.65").rat(), "71333.65", id(10), 0}
	for _, window := range windows {
		c.averages[average{"BTCUSDT", "binance", window}] = averageRow{"71333.65", 1, false, began.UnixMicro(), began.UnixMicro()}
	}
	c.responses = []responseRow{{id(10), "binance", "BTCUSDT"}}
	c.results = []pricedRow{{pointKey{"BTCUSDT", "binance", began.UnixMicro()}, "71333.65"}}
	c.quotes = []quote{{
		sent: began, received: began, client: "a", asked: [2]string{"binance", "BTCUSDT"},
		Symbol: "BTCUSDT", Provider: "binance", Price: "71333.65", Timestamp: began,
	}}
	c.book.jobs["key"], c.ids["polling_jobs"] = "job", []string{"job"}
	c.backfills["key"], c.ids["backfills"] = "bf", []string{"bf"}
	c.keys[jobsPath], c.keys[backfillsPath], c.keys[replaysPath] = map[string]bool{"key": true}, map[string]bool{"key": true}, map[string]bool{"key": true}
	c.replays["replay"], c.ids["dead_letter_replays"] = true, []string{"replay"}
	c.facts.jobs = []jobRow{{id: "job", status: "active", counted: 3, recorded: 3, next: began}}
	return c
}

func check(c *checker) error { return first(c.ofClients, c.ofFacts) }

func TestNothingDiffersInAHealthySystem(t *testing.T) {
	t.Parallel()
	require.NoError(t, check(healthy(t)))
}

// Each loss, repetition or wrong digit is a difference.
func TestEveryDamageIsADifference(t *testing.T) {
	t.Parallel()
	event := func(c *checker) pointKey { return pointKey{"EVENT0", eventProvider, c.now.UnixMicro()} }
	for name, damage := range map[string]func(c *checker){
		"a point is lost": func(c *checker) { delete(c.points, event(c)) },
		"a point has another price": func(c *checker) {
			p := c.points[event(c)]
			p.price = big.NewRat(11, 1)
			c.points[event(c)] = p
		},
		"an event of lower rank counts": func(c *checker) {
			k := event(c)
			k.at += 5_000_000
			c.points[k] = point{number("6000").rat(), "6000", uuid.UUID{15: 5}, 0}
		},
		"a point that nobody sent": func(c *checker) { c.points[pointKey{"X", "y", 1}] = point{text: "1", price: big.NewRat(1, 1)} },
		"an average is off in its last digit": func(c *checker) {
			a := average{"EVENT0", eventProvider, 20}
			r := c.averages[a]
			r.text = "35.000000000001"
			c.averages[a] = r
		},
		"an average is lost":                     func(c *checker) { delete(c.averages, average{"EVENT0", eventProvider, 20}) },
		"an average of a series without point":   func(c *checker) { c.averages[average{"X", "y", 5}] = averageRow{} },
		"the broker lost an acknowledged record": func(c *checker) { c.events = c.events[1:] },
		"an answered price is not published":     func(c *checker) { c.quotes[0].Timestamp = c.now.Add(time.Second) },
		"an answered price has another digit":    func(c *checker) { c.quotes[0].Price = "71333.66" },
		"an answer of another symbol":            func(c *checker) { c.quotes[0].asked[1] = "ETHUSDT" },
		"an old price is answered as fresh": func(c *checker) {
			c.quotes[0].sent, c.quotes[0].received = c.now.Add(2*time.Minute), c.now.Add(2*time.Minute)
		},
		"a stored response is not published":       func(c *checker) { c.responses[0].id = uuid.UUID{15: 99} },
		"a job has a result that is not published": func(c *checker) { c.results[0].price = "1" },
		"the stream's last state is old":           func(c *checker) { s := c.streamed["EVENT0"]; s.Price = "50"; c.streamed["EVENT0"] = s },
		"the stream's last average is wrong":       func(c *checker) { c.streamed["EVENT0"].Averages[1].Average = "36" },
		"a letter is lost":                         func(c *checker) { c.inspected = nil },
		"a letter is there twice":                  func(c *checker) { c.inspected = append(c.inspected, c.inspected[0]) },
		"a letter's value differs":                 func(c *checker) { c.inspected[0].record.Value = []byte("{}") },
		"a letter's key differs":                   func(c *checker) { c.inspected[0].record.Key = []byte("x") },
		"a letter's headers differ":                func(c *checker) { c.inspected[0].headers = "[]" },
		"a letter is not exact":                    func(c *checker) { c.inspected[0].exact = false },
		"a letter is not resolved":                 func(c *checker) { c.inspected[0].status = "open" },
		"a letter of a good event": func(c *checker) {
			c.inspected = append(c.inspected, letterRow{record: *c.events[0], status: "open", exact: true})
		},
		"a dead letter record is lost":   func(c *checker) { c.letters = nil },
		"a dead letter record differs":   func(c *checker) { c.letters[0].Value = []byte("{}") },
		"an accepted job is lost":        func(c *checker) { c.ids["polling_jobs"] = nil },
		"a job was made twice":           func(c *checker) { c.ids["polling_jobs"] = []string{"job", "other"} },
		"an accepted backfill is lost":   func(c *checker) { c.ids["backfills"] = nil },
		"an accepted replay is lost":     func(c *checker) { c.ids["dead_letter_replays"] = nil },
		"a period is recorded twice":     func(c *checker) { c.facts.jobs[0].counted = 4 },
		"a run of no period":             func(c *checker) { c.facts.jobs[0].between = 1 },
		"a job has stopped":              func(c *checker) { c.facts.jobs[0].next = c.now.Add(-time.Minute) },
		"a followed series has no bar":   func(c *checker) { c.follows = follows(c.now)[1:2]; c.faultsEnd = time.Now() },
		"work is left":                   func(c *checker) { c.left["events that are not published"] = 1 },
		"an answer that cannot be right": func(c *checker) { c.wrongAnswer("the average of sevens is 8") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := healthy(t)
			damage(c)
			require.Error(t, check(c))
		})
	}
}

// A bar that became final a moment ago may still be missing. Schedules run at any time of the day, also when a session ends.
func TestABarIsMissingOnceItWasDue(t *testing.T) {
	t.Parallel()
	close2100 := time.Date(2026, 11, 30, 21, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		provider, interval string
		start, now         time.Time
		overdue            bool
	}{
		{"yfinance", "1d", close2100.Truncate(24 * time.Hour), close2100.Add(5 * time.Minute), false},
		{"yfinance", "1d", close2100.Truncate(24 * time.Hour), close2100.Add(3*time.Hour + 15*time.Minute), false},
		{"yfinance", "1d", close2100.Truncate(24 * time.Hour), close2100.Add(3*time.Hour + 15*time.Minute + 1), true},
		{"twelve_data", "1d", close2100.Truncate(24 * time.Hour), close2100.Add(9*time.Hour + 15*time.Minute), false},
		{"twelve_data", "1d", close2100.Truncate(24 * time.Hour), close2100.Add(9*time.Hour + 15*time.Minute + 1), true},
		{"yfinance", "1m", close2100, close2100.Add(time.Minute), false},
		{"yfinance", "1m", close2100, close2100.Add(time.Minute + 1), true},
		{"yfinance", "5m", close2100, close2100.Add(6 * time.Minute), false},
		{"yfinance", "5m", close2100, close2100.Add(6*time.Minute + 1), true},
	} {
		checks := &checker{faultsEnd: c.now, facts: facts{now: c.now}}
		require.Equal(t, c.overdue, checks.overdue(c.provider, c.interval, c.start), c)
	}
}

func TestLimitsOfClientsAndProviders(t *testing.T) {
	t.Parallel()
	began := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	at := func(seconds ...float64) (all []admission) {
		for _, s := range seconds {
			t := began.Add(time.Duration(s * float64(time.Second)))
			all = append(all, admission{earliest: t.Add(-100 * time.Millisecond), latest: t})
		}
		return all
	}
	redis := func(kind Kind, from, to int) injected {
		return injected{Fault: Fault{Kind: kind, Target: "redis"}, from: began.Add(time.Duration(from) * time.Second), to: began.Add(time.Duration(to) * time.Second)}
	}
	alone := func(all []admission) []admission {
		for i := range all {
			all[i].alone = true
		}
		return all
	}
	for name, c := range map[string]struct {
		admitted []admission
		faults   []injected
		exceeded bool
	}{
		"five in a minute":                    {at(1, 2, 3, 4, 5, 61.2, 62.2), nil, false},
		"six in a minute":                     {at(1, 2, 3, 4, 5, 60.5), nil, true},
		"six, of which one was asked earlier": {at(1, 2, 3, 4, 5, 60.95), nil, false},
		"ten after a loss of memory":          {at(1, 2, 3, 4, 5, 21, 22, 23, 24, 25), []injected{redis(Kill, 20, 20)}, false},
		"more after a loss of memory":         {at(1, 2, 3, 4, 5, 21, 22, 23, 24, 25, 26), []injected{redis(Kill, 20, 20)}, true},
		"a loss of long ago":                  {at(201, 202, 203, 204, 205, 206), []injected{redis(Kill, 20, 20)}, true},
		"a share for each replica":            {append(at(1, 2, 3, 4, 5), alone(at(21, 22))...), nil, false},
		"more than the shares":                {append(at(1, 2, 3, 4, 5), alone(at(21, 22, 23))...), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := (&checker{faults: c.faults, book: newBook()}).within(limit{"requests", 5, 1, []string{"get-latest"}, true}, c.admitted)
			require.Equal(t, c.exceeded, err != nil, err)
		})
	}
	// Calls are not marked: with an outage the shares come on top.
	for name, c := range map[string]struct {
		calls    []admission
		faults   []injected
		exceeded bool
	}{
		"the shares of an outage":   {at(1, 2, 3, 4, 5, 21, 22), []injected{redis(Hang, 20, 23)}, false},
		"more than the shares":      {at(1, 2, 3, 4, 5, 21, 22, 23), []injected{redis(Hang, 20, 23)}, true},
		"an outage of long ago":     {at(201, 202, 203, 204, 205, 206), []injected{redis(Hang, 20, 23)}, true},
		"more, and nothing is away": {at(1, 2, 3, 4, 5, 21), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := (&checker{faults: c.faults, book: newBook()}).within(limit{"calls", 5, 1, []string{"poll"}, false}, c.calls)
			require.Equal(t, c.exceeded, err != nil, err)
		})
	}
}

func TestExactAverages(t *testing.T) {
	t.Parallel()
	third := big.NewRat(10, 3)
	for text, want := range map[string]bool{"3.333333333333": true, "3.33333333333": false, "3.333333333334": false, "3.3333333333333": false, "": false} {
		require.Equal(t, want, exact(text, third, 0), text)
	}
	require.True(t, exact("0.125", big.NewRat(1, 8), 0), "an expansion that ends has all its digits")
	require.False(t, exact("0.1250000000001", big.NewRat(1, 8), 0))
}
