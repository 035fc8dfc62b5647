package priceevent_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

var now = time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC)

const valid = `{"symbol":"aapl","price":150.250,"timestamp":"2024-03-20T12:30:00.1234567+02:00","source":"alpha_vantage",` +
	`"raw_response_id":"0190f5d8-0000-7000-8000-000000000001","volume":[1,{"x":null}]}`

func TestEncodeDecodeRoundTrip(t *testing.T) {
	t.Parallel()
	price, err := market.ParsePrice("150.25")
	require.NoError(t, err)
	want := priceevent.Observation{
		Symbol: "AAPL", Provider: "alpha_vantage", Price: price,
		ObservedAt:    time.Date(2024, 3, 20, 10, 30, 0, 123456000, time.UTC),
		RawResponseID: uuid.MustParse("0190f5d8-0000-7000-8000-000000000001"),
	}
	got, err := priceevent.Decode([]byte(valid), 0, now)
	require.NoError(t, err)
	require.Equal(t, want, got)

	m, err := priceevent.Encode(want)
	require.NoError(t, err)
	require.Equal(t, "AAPL", m.Key)
	require.Equal(t, "0190f5d8-0000-7000-8000-000000000001:AAPL:1710930600123456", m.Headers["ce_id"])
	require.JSONEq(t, `{"symbol":"AAPL","price":150.25,"timestamp":"2024-03-20T10:30:00.123456Z","source":"alpha_vantage",
		"raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`, string(m.Value))
	again, err := priceevent.Decode(m.Value, 0, now)
	require.NoError(t, err)
	require.Equal(t, want, again)
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	with := func(old, repl string) string { return strings.Replace(valid, old, repl, 1) }
	cases := map[string]struct{ data, code string }{
		"no data":              {"", "no_data"},
		"bytes":                {"\x00\xff\x01", "undecodable"},
		"white space":          {" \n", "undecodable"},
		"truncated":            {valid[:40], "undecodable"},
		"two documents":        {valid + valid, "undecodable"},
		"array":                {"[]", "invalid_schema"},
		"null":                 {"null", "invalid_schema"},
		"number":               {"5", "invalid_schema"},
		"missing price":        {with(`"price":150.250,`, ""), "invalid_schema"},
		"other case of name":   {with(`"symbol"`, `"Symbol"`), "invalid_schema"},
		"symbol null":          {with(`"aapl"`, `null`), "invalid_schema"},
		"symbol number":        {with(`"aapl"`, `5`), "invalid_schema"},
		"symbol empty":         {with(`"aapl"`, `""`), "invalid_symbol"},
		"price string":         {with(`150.250`, `"150.25"`), "invalid_price"},
		"price null":           {with(`150.250`, `null`), "invalid_price"},
		"price zero":           {with(`150.250`, `0`), "invalid_price"},
		"price negative":       {with(`150.250`, `-1`), "invalid_price"},
		"price huge exponent":  {with(`150.250`, `1e999999999`), "invalid_price"},
		"source upper case":    {with(`alpha_vantage`, `Alpha`), "invalid_provider"},
		"id not a uuid":        {with(`0190f5d8`, `xxxx`), "invalid_schema"},
		"id in wrong brackets": {with(`"0190f5d8-0000-7000-8000-000000000001"`, `"x0190f5d8-0000-7000-8000-000000000001x"`), "invalid_schema"},
		"time wrong":           {with(`2024-03-20T12`, `2024-13-20T12`), "invalid_timestamp"},
		"before 1970":          {with(`2024-03-20T12`, `1969-03-20T12`), "invalid_timestamp"},
		"over a day ahead":     {with(`2024-03-20T12`, `2024-03-21T15`), "invalid_timestamp"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := priceevent.Decode([]byte(c.data), 0, now)
			require.Equal(t, c.code, fault.CodeOf(err))
			require.True(t, fault.Permanent(err))
		})
	}
}

func TestTimestampsAreExactlyRFC3339(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2024-03-20t10:30:00z": "2024-03-20T10:30:00Z", "2024-03-20T10:30:00.123456789123Z": "2024-03-20T10:30:00.123456Z",
		"2024-03-20T10:30:00-00:00": "2024-03-20T10:30:00Z", "2024-03-20T10:30:00+23:59": "2024-03-19T10:31:00Z",
		"2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z", "2017-01-01T05:29:60.5+05:30": "2017-01-01T00:00:00.5Z",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			o, err := priceevent.Decode([]byte(strings.Replace(valid, "2024-03-20T12:30:00.1234567+02:00", text, 1)), 0, now)
			require.NoError(t, err)
			require.Equal(t, want, o.ObservedAt.Format(time.RFC3339Nano))
		})
	}
	for _, text := range []string{
		"2024-03-20T10:30:00+24:01", "2024-03-20T10:30:00+00:60", "2024-03-20T1:30:00Z", "2024-03-20T10:30:00,5Z", "2024-03-20T10:30:00.Z",
		"2024-03-20T10:30:00", "2024-03-20 10:30:00Z", "2024-03-20T24:00:00Z", "2024-02-30T10:30:00Z", "2024-03-20T10:30:61Z",
		"2024-03-20T10:30:60Z", "2024-03-20T10:30:00+0100", "2024-03-20T10:30Z", "", "58877-03-20T10:30:00Z", "-0001-03-20T10:30:00Z",
		" 2024-03-20T10:30:00Z", "2024-03-20T10:30:00Z ", "20240320T103000Z", "2024-03-20T10:30:00+1:00",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := priceevent.Decode([]byte(strings.Replace(valid, "2024-03-20T12:30:00.1234567+02:00", text, 1)), 0, now)
			require.Equal(t, "invalid_timestamp", fault.CodeOf(err))
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := priceevent.Decode(data, 0, now)
		if err != nil {
			require.True(t, fault.Permanent(err))
			return
		}
		require.Zero(t, o.ObservedAt.Nanosecond()%1000, "as the database has it")
		m, err := priceevent.Encode(o)
		require.NoError(t, err)
		again, err := priceevent.Decode(m.Value, 0, now)
		require.NoError(t, err)
		require.Equal(t, o, again)
	})
}

// The cost of a hostile body is bounded by its length: deep nesting fails the decoding, not the process.
func TestDecodeBoundsNesting(t *testing.T) {
	t.Parallel()
	for _, open := range []string{"[", `{"a":`} {
		_, err := priceevent.Decode([]byte(strings.Repeat(open, 200_000)), 0, now)
		require.Equal(t, "undecodable", fault.CodeOf(err))
	}
}

// The decoder agrees with the standard library's on what is JSON, and on repeated names, of which the last counts.
func FuzzDecodeAgainstEncodingJSON(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte(`{"symbol":"A","symbol":"B","Symbol":"C"} `))
	f.Add([]byte(`[1]`))
	f.Add([]byte("\"\xff\""))
	f.Add([]byte(strings.TrimSuffix(valid, "}") + `,"symbol":null}`))
	f.Add([]byte(valid + "1"))
	f.Add([]byte(strings.Replace(valid, `"0190f5d8-0000-7000-8000-000000000001"`, `"x0190f5d8-0000-7000-8000-000000000001x"`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := priceevent.Decode(data, 0, now)
		if len(data) == 0 {
			require.Equal(t, "no_data", fault.CodeOf(err))
			return
		}
		require.Equal(t, !json.Valid(data), fault.CodeOf(err) == "undecodable", "%v", err)
		var members map[string]json.RawMessage
		if err != nil || json.Unmarshal(data, &members) != nil {
			return
		}
		o, err := priceevent.Decode(data, 0, now)
		require.NoError(t, err)
		texts := map[string]string{}
		for _, name := range []string{"symbol", "source", "raw_response_id", "timestamp"} {
			var text *string
			require.NoError(t, json.Unmarshal(members[name], &text))
			require.NotNil(t, text, name)
			texts[name] = *text
		}
		require.Equal(t, []string{strings.ToUpper(texts["symbol"]), texts["source"]}, []string{string(o.Symbol), o.Provider})
		require.NoError(t, uuid.Validate(texts["raw_response_id"]))
		require.Equal(t, uuid.MustParse(texts["raw_response_id"]), o.RawResponseID)
		if at, err := time.Parse(time.RFC3339Nano, texts["timestamp"]); err == nil {
			require.True(t, at.Truncate(time.Microsecond).Equal(o.ObservedAt), "%s became %s", at, o.ObservedAt)
		}
		price, err := market.ParsePrice(string(members["price"]))
		require.NoError(t, err)
		require.Equal(t, price, o.Price)
	})
}

// What the consumer would refuse is refused before it is stored, for the same reason.
func TestValidate(t *testing.T) {
	t.Parallel()
	good, err := priceevent.Decode([]byte(valid), 0, now)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(o *priceevent.Observation)
		code   string // empty: valid
	}{
		"good":                {func(*priceevent.Observation) {}, ""},
		"no symbol":           {func(o *priceevent.Observation) { o.Symbol = "" }, fault.CodeInvalidSymbol},
		"provider with space": {func(o *priceevent.Observation) { o.Provider = "a b" }, fault.CodeInvalidProvider},
		"no price":            {func(o *priceevent.Observation) { o.Price = market.Price{} }, fault.CodeInvalidPrice},
		"1970":                {func(o *priceevent.Observation) { o.ObservedAt = time.Unix(0, 0) }, ""},
		"before 1970":         {func(o *priceevent.Observation) { o.ObservedAt = time.Unix(0, -1000) }, fault.CodeInvalidTimestamp},
		"a day ahead":         {func(o *priceevent.Observation) { o.ObservedAt = now.Add(24 * time.Hour) }, ""},
		"more than a day":     {func(o *priceevent.Observation) { o.ObservedAt = now.Add(24*time.Hour + time.Microsecond) }, fault.CodeInvalidTimestamp},
		"correction below 0":  {func(o *priceevent.Observation) { o.Correction = -1 }, fault.CodeInvalidSchema},
	} {
		o := good
		c.change(&o)
		err := o.Validate(now)
		if c.code == "" {
			require.NoError(t, err, name)
			continue
		}
		require.Equal(t, c.code, fault.CodeOf(err), name)
		require.True(t, fault.Permanent(err), name)
	}
}

// Of one point's observations, correction counts before the id, and the id before the price.
func TestRank(t *testing.T) {
	t.Parallel()
	o := func(correction int, id byte, price string) priceevent.Observation {
		p, err := market.ParsePrice(price)
		require.NoError(t, err)
		return priceevent.Observation{Correction: correction, RawResponseID: uuid.UUID{15: id}, Price: p}
	}
	ascending := []priceevent.Observation{o(0, 1, "9"), o(0, 1, "10"), o(0, 2, "1"), o(1, 0, "1"), o(1, 0, "1.5"), o(2, 0, "1")}
	for i, a := range ascending {
		for j, b := range ascending {
			require.Equal(t, cmp.Compare(i, j), a.CompareRank(b), "%d and %d", i, j)
		}
	}
}

func TestTheLastOfRepeatedNamesCounts(t *testing.T) {
	t.Parallel()
	o, err := priceevent.Decode([]byte(strings.Replace(valid, "{", `{"symbol":5,`, 1)), 0, now)
	require.NoError(t, err)
	require.EqualValues(t, "AAPL", o.Symbol)
	_, err = priceevent.Decode([]byte(strings.Replace(valid, `"volume"`, `"symbol":5,"volume"`, 1)), 0, now)
	require.Equal(t, fault.CodeInvalidSchema, fault.CodeOf(err))
}
