package chaos

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// answers: no answer with a status of 2xx was wrong.
func (c *checker) answers() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) > 0 {
		return differs("%s (%d wrong answers)", c.wrong[0], len(c.wrong))
	}
	for _, q := range c.quotes {
		switch {
		case q.Symbol != q.asked[1] || q.Provider != q.asked[0]:
			return differs("asked for %v, got %+v", q.asked, q)
		case !q.Stale && q.received.Sub(q.Timestamp) > freshFor+q.received.Sub(q.sent):
			return differs("a price of %s was answered as fresh at %s: %+v", q.Timestamp, q.received, q)
		case !c.market.gave(q.Provider, q.Symbol, string(q.Price)):
			return differs("%s never gave the price that was answered: %+v", q.Provider, q)
		}
	}
	return nil
}

// freshFor is CACHE_TTL, with room for a fetch before it and for the seconds that prices are of.
const freshFor = 60*time.Second + 25*time.Second

// poison: every poison record is in the inspector, byte for byte, once; nothing else is. Those that a replay corrects are resolved.
func (c *checker) poison() error {
	want := map[string]*kgo.Record{}
	for _, r := range c.events {
		if !isGood(r) {
			want[place(r)] = r
		}
	}
	copies := map[string]bool{}
	for _, r := range c.letters {
		original := fmt.Sprintf("%s/%s@%s", header(r, "dlq-topic"), header(r, "dlq-partition"), header(r, "dlq-offset"))
		if w := want[original]; w == nil || !bytes.Equal(w.Value, r.Value) {
			return differs("%s is a dead letter of %s, which is not poison, or not these bytes: %q", place(r), original, r.Value)
		}
		copies[original] = true
	}
	found := map[string]bool{}
	for _, l := range c.inspected {
		r := &l.record
		at := place(r)
		w := want[at]
		if w == nil {
			return differs("letter %s (%s: %s) is of no poison record: %q", at, l.code, l.reason, r.Value)
		}
		if found[at] {
			return differs("there are two letters of %s", at)
		}
		found[at] = true
		if !l.exact || !bytes.Equal(w.Value, r.Value) || !bytes.Equal(w.Key, r.Key) || !sameHeaders(l.headers, w.Headers) {
			return differs("letter %s (exact %t) has key %q, value %q, headers %s: want key %q, value %q", at, l.exact, r.Key, r.Value, l.headers, w.Key, w.Value)
		}
		if end := map[bool]string{true: "resolved", false: "open"}[string(w.Key) == fixSymbol]; l.status != end {
			return differs("letter %s is %s (%s: %s): want %s", at, l.status, l.code, l.reason, end)
		}
	}
	for at, w := range want {
		if !found[at] || !copies[at] {
			return differs("poison record %s: in the inspector %t, on the topic of dead letters %t: %q", at, found[at], copies[at], w.Value)
		}
	}
	return nil
}

func sameHeaders(text string, want []kgo.RecordHeader) bool {
	var got []struct{ Name, Value string }
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) != len(want) {
		return false
	}
	for i, h := range want {
		if got[i].Name != h.Key || got[i].Value != base64.StdEncoding.EncodeToString(h.Value) {
			return false
		}
	}
	return true
}

// accepted: what was accepted exists, at most once for each idempotency key.
func (c *checker) accepted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths := map[string]string{"polling_jobs": jobsPath, "backfills": backfillsPath, "dead_letter_replays": replaysPath}
	for table, path := range paths {
		if rows, keys := len(c.ids[table]), len(c.keys[path]); rows > keys {
			return differs("%s has %d rows, and %d idempotency keys were used", table, rows, keys)
		}
	}
	for table, ids := range map[string]map[string]string{"polling_jobs": c.book.jobs, "backfills": c.backfills} {
		for key, id := range ids {
			if !slices.Contains(c.ids[table], id) {
				return differs("%s of %s was accepted and is not in %s", id, key, table)
			}
		}
	}
	for id := range c.replays {
		if !slices.Contains(c.ids["dead_letter_replays"], id) {
			return differs("replay %s was accepted and is not there", id)
		}
	}
	return nil
}

// jobsRan: the periods that are recorded are of the job, and no job has stopped. A period that was recorded twice would count twice.
func (c *checker) jobsRan() error {
	for _, j := range c.facts.jobs {
		if j.status != "active" || j.counted != j.recorded || j.between > 0 || j.recorded == 0 {
			return differs("job %s is %s, has counted %d runs, and recorded %d, of which %d are of no period", j.id, j.status, j.counted, j.recorded, j.between)
		}
		if late := c.now.Sub(j.next); late > 20*time.Second {
			return differs("job %s is late by %v", j.id, late)
		}
	}
	return nil
}

// seriesComplete: every final bar of a followed series is stored once, as the exchange has it.
func (c *checker) seriesComplete() error {
	for _, f := range c.follows {
		query := url.Values{
			"provider": {f.provider}, "symbol": {f.symbol}, "interval": {f.interval},
			"start": {fmt.Sprint(f.since.Unix())}, "end": {fmt.Sprint(c.now.Add(time.Hour).Unix())},
		}
		var answer struct {
			Bars []struct {
				Start time.Time
				Close number
				Final bool
			}
		}
		if err := json.Unmarshal(c.market.admin("GET", "/_admin/bars?"+query.Encode(), ""), &answer); err != nil {
			return fmt.Errorf("ask the exchange: %w", err)
		}
		series, bars := f.provider+"-"+f.interval, map[int64]number{}
		for _, b := range answer.Bars {
			bars[b.Start.UnixMicro()] = b.Close
			k := pointKey{f.symbol, series, b.Start.UnixMicro()}
			p, found := c.points[k]
			if b.Final && !found && c.overdue(f.provider, f.interval, b.Start) {
				return differs("bar %s is not stored: want %s", k, b.Close)
			}
			if found && p.price.Cmp(b.Close.rat()) != 0 {
				return differs("bar %s is stored as %s: want %s", k, p.text, b.Close)
			}
		}
		for k := range c.points {
			if _, found := bars[k.at]; k.symbol == f.symbol && k.provider == series && !found {
				return differs("bar %s is stored, and the exchange has none", k)
			}
		}
	}
	return nil
}

// overdue returns whether a final bar must have been fetched. The bar of a day is asked for ten minutes after a session in New York or a day
// has ended. Twelve Data's counts as final six hours after the day.
func (c *checker) overdue(provider, interval string, start time.Time) bool {
	switch {
	case interval == "1m":
		return start.Before(c.faultsEnd.Add(-time.Minute))
	case interval == "1d" && provider == "twelve_data":
		return start.Before(c.now.Add(-30*time.Hour - 15*time.Minute))
	case interval == "1d":
		return start.Before(c.now.Add(-24*time.Hour - 15*time.Minute))
	default:
		return start.Before(c.faultsEnd.Add(-6 * time.Minute))
	}
}

// atRest: nothing is left to do.
func (c *checker) atRest() error {
	for what, n := range c.left {
		if n > 0 {
			return differs("there are %d %s", n, what)
		}
	}
	return nil
}
