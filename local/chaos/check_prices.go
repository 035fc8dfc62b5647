package chaos

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// pointKey names a price point. The time is in microseconds since 1970.
type pointKey struct {
	symbol, provider string
	at               int64
}

func (k pointKey) String() string {
	return k.provider + " " + k.symbol + " " + time.UnixMicro(k.at).UTC().Format(time.RFC3339Nano)
}

type point struct {
	price      *big.Rat
	text       string
	id         uuid.UUID
	correction int
}

// decode reads a good event.
func decode(r *kgo.Record) (pointKey, point, error) {
	var v struct {
		Symbol    string    `json:"symbol"`
		Price     number    `json:"price"`
		Timestamp time.Time `json:"timestamp"`
		Source    string    `json:"source"`
		ID        uuid.UUID `json:"raw_response_id"`
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return pointKey{}, point{}, fmt.Errorf("%s is no price event: %w: %q", place(r), err, r.Value)
	}
	p := point{price: v.Price.rat(), text: string(v.Price), id: v.ID}
	if p.price == nil {
		return pointKey{}, point{}, fmt.Errorf("%s has no price: %q", place(r), r.Value)
	}
	if text := header(r, "ce_correction"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return pointKey{}, point{}, fmt.Errorf("%s: correction: %w", place(r), err)
		}
		p.correction = n
	}
	return pointKey{v.Symbol, v.Source, v.Timestamp.UnixMicro()}, p, nil
}

func place(r *kgo.Record) string { return fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset) }

// outranks reports whether p counts, and not q, if both name one point.
func (p point) outranks(q point) bool {
	return cmp.Or(cmp.Compare(p.correction, q.correction), bytes.Compare(p.id[:], q.id[:]), p.price.Cmp(q.price)) > 0
}

// acknowledged: what the broker acknowledged is on the topic.
func (c *checker) acknowledged() error {
	at := map[string]*kgo.Record{}
	for _, r := range c.events {
		at[place(r)] = r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.produced {
		if found := at[place(r)]; found == nil || !bytes.Equal(found.Value, r.Value) {
			return differs("the broker acknowledged %s, which is not there: %q", place(r), r.Value)
		}
	}
	return nil
}

// published: every price that was answered or recorded is on the topic with its digits, and so is something of every stored response
// to a quote.
func (c *checker) published() error {
	prices, ids := map[pointKey][]*big.Rat{}, map[uuid.UUID]bool{}
	for _, r := range c.events {
		if !isGood(r) {
			continue
		}
		k, p, err := decode(r)
		if err != nil {
			return err
		}
		prices[k], ids[p.id] = append(prices[k], p.price), true
	}
	has := func(k pointKey, price *big.Rat) bool {
		return price != nil && slices.ContainsFunc(prices[k], func(p *big.Rat) bool { return p.Cmp(price) == 0 })
	}
	c.mu.Lock()
	quotes := c.quotes
	c.mu.Unlock()
	for _, q := range quotes {
		k := pointKey{q.Symbol, q.Provider, q.Timestamp.UnixMicro()}
		if !has(k, q.Price.rat()) {
			return differs("%s was answered at %s, and no event has it: %s", k, q.Price, q.received.Format(time.TimeOnly))
		}
	}
	for _, r := range c.responses {
		if !ids[r.id] {
			return differs("response %s of %s for %s is stored, and no event has it", r.id, r.provider, r.symbol)
		}
	}
	for _, r := range c.results {
		if !has(r.pointKey, number(r.price).rat()) {
			return differs("a job has the result %s at %s, and no event has it", r.pointKey, r.price)
		}
	}
	return nil
}

// expected returns the points that follow from the events: of several events for a point the one with the greatest rank counts. The
// correction of a replayed event is whatever the inspector chose, above all others.
func (c *checker) expected() (map[pointKey]point, error) {
	want := map[pointKey]point{}
	for _, r := range c.events {
		var k pointKey
		var p point
		var err error
		switch {
		case isGood(r):
			k, p, err = decode(r)
		case string(r.Key) == fixSymbol:
			corrected := *r
			corrected.Value = unquotePrice(r.Value)
			k, p, err = decode(&corrected)
			p.correction = max(1, c.points[k].correction)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		if old, found := want[k]; !found || p.outranks(old) {
			want[k] = p
		}
	}
	return want, nil
}

// unquotePrice makes a number of the price, as the transform of the replays does.
func unquotePrice(value []byte) []byte {
	before, rest, _ := bytes.Cut(value, []byte(`"price":"`))
	price, after, _ := bytes.Cut(rest, []byte(`"`))
	return slices.Concat(before, []byte(`"price":`), price, after)
}

// stored: the points are exactly those that follow from the events.
func (c *checker) stored() error {
	want, err := c.expected()
	if err != nil {
		return err
	}
	for k, w := range want {
		if got, found := c.points[k]; !found {
			return differs("%s is not stored: want %s of %s", k, w.text, w.id)
		} else if got.price.Cmp(w.price) != 0 || got.id != w.id || got.correction != w.correction {
			return differs("%s is stored as %s of %s, correction %d: want %s of %s, correction %d", k, got.text, got.id, got.correction, w.text, w.id, w.correction)
		}
	}
	for k, got := range c.points {
		if _, found := want[k]; !found {
			return differs("%s is stored as %s, and no event has it", k, got.text)
		}
	}
	return nil
}

var windows = []int{5, 20, 50}

// newestOf returns the points of each series, newest first.
func (c *checker) newestOf() map[[2]string][]pointKey {
	series := map[[2]string][]pointKey{}
	for k := range c.points {
		name := [2]string{k.symbol, k.provider}
		series[name] = append(series[name], k)
	}
	for _, keys := range series {
		slices.SortFunc(keys, func(a, b pointKey) int { return cmp.Compare(b.at, a.at) })
	}
	return series
}

// mean returns the mean of the newest n points, and the greatest scale of their prices.
func (c *checker) mean(newest []pointKey, n int) (mean *big.Rat, scale int) {
	sum := new(big.Rat)
	for _, k := range newest[:n] {
		p := c.points[k]
		sum.Add(sum, p.price)
		if _, fraction, found := bytes.Cut([]byte(canonical(p.text)), []byte(".")); found {
			scale = max(scale, len(fraction))
		}
	}
	return sum.Quo(sum, new(big.Rat).SetInt64(int64(n))), scale
}

// exact reports whether text is the mean: to its last digit if its expansion ends, else rounded to 12 places more than its prices have.
func exact(text string, mean *big.Rat, scale int) bool {
	got := number(text).rat()
	if got == nil {
		return false
	}
	if _, ends := mean.FloatPrec(); ends {
		return got.Cmp(mean) == 0
	}
	return canonical(text) == canonical(mean.FloatString(scale+12))
}

// averaged: the averages of every series are the exact means of its newest points.
func (c *checker) averaged() error {
	series := c.newestOf()
	for name, newest := range series {
		for _, size := range windows {
			n := min(size, len(newest))
			mean, scale := c.mean(newest, n)
			r := c.averages[average{name[0], name[1], size}]
			if !exact(r.text, mean, scale) || r.used != n || r.complete != (n == size) || r.asOf != newest[0].at || r.oldest != newest[n-1].at {
				return differs("average of %v over %d is %+v: want %s of %d points from %v to %v", name, size, r, mean.FloatString(scale+12), n, newest[n-1], newest[0])
			}
		}
	}
	if len(c.averages) != len(series)*len(windows) {
		return differs("there are %d averages: want %d", len(c.averages), len(series)*len(windows))
	}
	return nil
}

// streams: the last state that a client of the stream saw of each series is its state.
func (c *checker) streams() error {
	series := c.newestOf()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, symbol := range append(eventSymbols(), constSymbol) {
		newest := series[[2]string{symbol, eventProvider}]
		if len(newest) == 0 {
			continue
		}
		s, found := c.streamed[symbol]
		if !found || s.AsOf.UnixMicro() != newest[0].at || s.Price.rat().Cmp(c.points[newest[0]].price) != 0 || len(s.Averages) != len(windows) {
			return differs("the stream's last state of %s is %+v: want %s at %s", symbol, s, c.points[newest[0]].text, newest[0])
		}
		for _, a := range s.Averages {
			n := min(a.Window, len(newest))
			mean, scale := c.mean(newest, n)
			if !exact(string(a.Average), mean, scale) || a.PointsUsed != n || a.Complete != (n == a.Window) {
				return differs("the stream's last average of %s over %d is %+v: want %s of %d", symbol, a.Window, a, mean.FloatString(scale+12), n)
			}
		}
	}
	return nil
}
