// Package incident plays a bad day on a running stack: duplicates, late prices, a wrong price and its correction, poison events of
// every kind, and an outage of a provider. It works from outside, over Kafka and HTTP, and prints what it does and what happens.
//
// Start at [Play]. Each day has a series of its own, so it can be played again.
package incident

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

// Stack holds the addresses of a running stack.
type Stack struct {
	Gateway   string // URL, as the next two
	GetLatest string
	Exchange  string
	Kafka     kafkaclient.Config
	Topic     string // of price events
	Token     string // operator token, for dead letters
}

// patience is how long the pipeline may take to react to a step.
const patience = 30 * time.Second

// day is one bad day.
type day struct {
	Stack
	out      io.Writer
	producer *kafkaclient.Producer
	symbol   market.Symbol
	began    time.Time
}

const provider = "incident"

// Play plays the day and writes a report to out. An error means that a result was not the expected one.
func Play(ctx context.Context, s Stack, out io.Writer) error {
	d := &day{Stack: s, out: out, producer: kafkaclient.NewProducer(s.Kafka, slog.New(slog.NewTextHandler(out, nil))), began: time.Now().UTC()}
	d.symbol = market.Symbol(fmt.Sprintf("DAY-%X", d.began.UnixMilli()))
	defer d.producer.Close(5 * time.Second)
	for _, step := range []func(context.Context) error{d.outOfOrder, d.late, d.wrongAndCorrected, d.poison, d.outage} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.say("see       the page %s/   dead letters %s/dlq   the series %s", s.Gateway, s.Gateway, d.averageURL(5))
	return nil
}

func (d *day) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...) // a closed terminal must not stop the day
}

// point returns the event of second i of the day.
func (d *day) point(i int, price string) (priceevent.Observation, error) {
	p, err := market.ParsePrice(price)
	if err != nil {
		return priceevent.Observation{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return priceevent.Observation{}, err
	}
	at := d.began.Truncate(time.Second).Add(time.Duration(i)*time.Second - time.Hour)
	return priceevent.Observation{Symbol: d.symbol, Provider: provider, Price: p, ObservedAt: at, RawResponseID: id}, nil
}

func (d *day) send(ctx context.Context, o priceevent.Observation, extra ...kafkaclient.Header) error {
	m, err := priceevent.Encode(o)
	if err != nil {
		return err
	}
	return d.produce(ctx, []byte(m.Key), m.Value, append(headers(m.Headers), extra...))
}

func headers(names map[string]string) []kafkaclient.Header {
	var all []kafkaclient.Header
	for name, value := range names {
		all = append(all, kafkaclient.Header{Name: name, Value: []byte(value)})
	}
	return all
}

func (d *day) produce(ctx context.Context, key, value []byte, headers []kafkaclient.Header) error {
	return d.producer.Produce(ctx, kafkaclient.Record{Topic: d.Topic, Key: key, Value: value, Headers: headers})
}

// outOfOrder sends seconds 2 to 6 shuffled, each twice.
func (d *day) outOfOrder(ctx context.Context) error {
	var events []priceevent.Observation
	for i, price := range []string{"20", "30", "40", "50", "6000"} {
		o, err := d.point(i+2, price)
		if err != nil {
			return err
		}
		events = append(events, o, o)
	}
	rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, o := range events {
		if err := d.send(ctx, o); err != nil {
			return err
		}
	}
	d.say("disorder  five prices of %s, shuffled, each sent twice", d.symbol)
	return d.expect(ctx, 5, "1228", 5)
}

// late sends second 1, which is older than all others: it counts in the longer average, and not in the shorter.
func (d *day) late(ctx context.Context) error {
	o, err := d.point(1, "10")
	if err != nil {
		return err
	}
	if err := d.send(ctx, o); err != nil {
		return err
	}
	d.say("late      a price older than all others")
	return errors.Join(d.expect(ctx, 20, "1025", 6), d.expect(ctx, 5, "1228", 5))
}

// wrongAndCorrected corrects second 6, whose price had two zeros too many.
func (d *day) wrongAndCorrected(ctx context.Context) error {
	o, err := d.point(6, "60")
	if err != nil {
		return err
	}
	if err := d.send(ctx, o, kafkaclient.Header{Name: "ce_correction", Value: []byte("1")}); err != nil {
		return err
	}
	d.say("wrong     6000 should have been 60: an event with correction 1")
	return d.expect(ctx, 5, "40", 5)
}

// poison sends events that can never succeed, one of each kind, and then a good price.
func (d *day) poison(ctx context.Context) error {
	const body = `{"symbol":%q,"price":%s,"timestamp":%q,"source":%q,"raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`
	symbol := string(d.symbol)
	good := "2024-01-01T00:00:00Z"
	kinds := []struct {
		code  string
		value []byte
		kind  string // event type; empty: the right one
	}{
		{fault.CodeUndecodable, []byte("{"), ""},
		{fault.CodeNoData, nil, ""},
		{fault.CodeInvalidSchema, []byte(`{"symbol":"` + symbol + `"}`), ""},
		{fault.CodeInvalidSymbol, fmt.Appendf(nil, body, "NOT A SYMBOL", "1", good, provider), ""},
		{fault.CodeInvalidProvider, fmt.Appendf(nil, body, symbol, "1", good, "NOT A PROVIDER"), ""},
		{fault.CodeInvalidPrice, fmt.Appendf(nil, body, symbol, `"1"`, good, provider), ""},
		{fault.CodeInvalidTimestamp, fmt.Appendf(nil, body, symbol, "1", "1969-12-31T23:59:59Z", provider), ""},
		{fault.CodeInvalidType, fmt.Appendf(nil, body, symbol, "1", good, provider), "somebody.elses.v1"},
	}
	want := map[string]int{}
	for _, k := range kinds {
		want[k.code]++
		kind := k.kind
		if kind == "" {
			kind = priceevent.Type
		}
		ce := map[string]string{
			"ce_specversion": "1.0", "ce_id": uuid.NewString(), "ce_source": "/incident", "ce_type": kind, "content-type": "application/json",
		}
		if err := d.produce(ctx, []byte(symbol), k.value, headers(ce)); err != nil {
			return err
		}
	}
	o, err := d.point(7, "70")
	if err != nil {
		return err
	}
	if err := d.send(ctx, o); err != nil {
		return err
	}
	d.say("poison    %d events that can never succeed, one of each kind, then a good one", len(kinds))
	if err := d.expect(ctx, 5, "50", 5); err != nil {
		return err
	}
	found := map[string]int{}
	err = until(ctx, func() (bool, error) {
		letters, err := d.letters(ctx)
		clear(found)
		for _, code := range letters {
			found[code]++
		}
		return len(letters) >= len(kinds), err
	})
	for code, n := range want {
		if found[code] < n && err == nil {
			err = fmt.Errorf("no dead letter with code %s", code)
		}
	}
	if err == nil {
		d.say("          %d dead letters, each with its reason", len(kinds))
	}
	return err
}

// letters returns the codes of the open dead letters of the day.
func (d *day) letters(ctx context.Context) ([]string, error) {
	var list struct{ Messages []struct{ Code string } }
	query := url.Values{"status": {"open"}, "since": {d.began.Format(time.RFC3339Nano)}, "limit": {"1000"}}
	status, err := d.call(ctx, http.MethodGet, d.Gateway+"/dlq/messages?"+query.Encode(), nil, &list, "Authorization", "Bearer "+d.Token)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("list dead letters: status %d", status)
	}
	var codes []string
	for _, m := range list.Messages {
		codes = append(codes, m.Code)
	}
	return codes, err
}

// outage makes one provider fail for a while: requests for its prices fail, those for other providers do not.
func (d *day) outage(ctx context.Context) error {
	const symbol = "MSFT"
	admin := func(method string) error {
		body := map[string]any{"provider": "finnhub", "symbol": symbol, "kind": "error_5xx", "count": 0}
		_, err := d.call(ctx, method, d.Exchange+"/_admin/faults", body, nil)
		return err
	}
	// Ask as another client behind a proxy, so that the requests do not count towards the user's own limit.
	ask := func(provider string) (status int, code string, err error) {
		var answer struct{ Code string }
		client := fmt.Sprintf("203.0.113.%d", 1+rand.IntN(254))
		status, err = d.call(ctx, http.MethodGet, d.GetLatest+"/prices/latest?symbol="+symbol+"&provider="+provider, nil, &answer, "X-Forwarded-For", client)
		return status, answer.Code, err
	}
	if err := admin(http.MethodPut); err != nil {
		return err
	}
	status, code, err := ask("finnhub")
	other, _, err2 := ask("yfinance")
	if err := errors.Join(err, err2, admin(http.MethodDelete)); err != nil {
		return err
	}
	d.say("outage    finnhub fails: %d %s; yfinance: %d", status, code, other)
	if code != fault.CodeProviderUnavailable && status != http.StatusOK || other != http.StatusOK { // a cached price may be answered instead
		return fmt.Errorf("outage of finnhub: got %d %s, and %d from yfinance", status, code, other)
	}
	err = until(ctx, func() (bool, error) {
		status, _, err := ask("finnhub")
		return status == http.StatusOK, err
	})
	if err == nil {
		d.say("          finnhub is back, and answers again")
	}
	return err
}

func (d *day) averageURL(window int) string {
	return fmt.Sprintf("%s/averages/latest?symbol=%s&provider=%s&window=%d", d.Gateway, d.symbol, provider, window)
}

// expect waits until an average has the expected value, to the last digit.
func (d *day) expect(ctx context.Context, window int, average string, points int) error {
	var got struct {
		Average    json.Number
		PointsUsed int `json:"points_used"`
	}
	err := until(ctx, func() (bool, error) {
		_, err := d.call(ctx, http.MethodGet, d.averageURL(window), nil, &got)
		return got.Average.String() == average && got.PointsUsed == points, err
	})
	if err != nil {
		return fmt.Errorf("average of %d: want %s of %d points, got %s of %d: %w", window, average, points, got.Average, got.PointsUsed, err)
	}
	d.say("          the average of the newest %d is %s, of %d points", window, average, points)
	return nil
}

var errTimeout = fmt.Errorf("not seen within %s", patience)

// until calls met every 100 ms until it returns true or an error.
func until(ctx context.Context, met func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errTimeout)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		if ok, err := met(); ok || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// call makes a request and decodes the JSON response into answer, unless that is nil.
func (d *day) call(ctx context.Context, method, target string, body, answer any, header ...string) (status int, err error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, content)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	text, err := io.ReadAll(resp.Body)
	if err != nil || answer == nil {
		return resp.StatusCode, err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return resp.StatusCode, errors.New("response is not JSON: " + method + " " + req.URL.Path + ", status " + strconv.Itoa(resp.StatusCode))
	}
	return resp.StatusCode, nil
}
