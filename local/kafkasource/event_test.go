package kafkasource

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var spec = Spec{Name: "src", Namespace: "ns", KeyType: "byte-array", Extensions: map[string]string{"kafkatopic": "prices"}}

func headers(pairs ...string) []Header {
	var out []Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Header{pairs[i], []byte(pairs[i+1])})
	}
	return out
}

func recordOf(value []byte, h []Header) Record {
	return Record{Topic: "prices", Partition: 3, Offset: 42, Value: value, Headers: h, Timestamp: time.UnixMilli(1700000000120)}
}

func TestInvalidCloudEventIsAPlainRecord(t *testing.T) {
	t.Parallel()
	event := func(more ...string) []Header {
		return append(headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t"), headers(more...)...)
	}
	const open, whole = `{"specversion":"1.0","id":"1","source":"/s"`, `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
	for name, c := range map[string]struct {
		headers []Header
		value   string // with the content type of a structured event
	}{
		"no id":                {headers: headers("ce_specversion", "1.0", "ce_source", "/s", "ce_type", "t")},
		"no source":            {headers: headers("ce_specversion", "1.0", "ce_id", "1", "ce_type", "t")},
		"no type":              {headers: headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s")},
		"no version":           {headers: headers("ce_id", "1", "ce_source", "/s", "ce_type", "t")},
		"unknown version":      {headers: event("ce_specversion", "2.0")},
		"bad time":             {headers: event("ce_time", "yesterday")},
		"bad attribute name":   {headers: event("ce_a-b", "x")},
		"source is no URI":     {headers: event("ce_source", "my source")},
		"schema is no URI":     {headers: event("ce_dataschema", "%zz")},
		"empty subject":        {headers: event("ce_subject", "")},
		"unregistered format":  {headers: event("content-type", "application/cloudevents+avro")},
		"a batch":              {headers: event("content-type", "application/cloudevents-batch+json")},
		"format in capitals":   {headers: headers("content-type", "Application/CloudEvents+json")},
		"space before charset": {headers: event("content-type", "application/cloudevents+json ; charset=utf-8")},

		"structured, null value":              {value: ""},
		"structured, broken":                  {value: "{"},
		"structured, not an object":           {value: "[1]"},
		"structured, not UTF-8":               {value: whole + `,"x":"` + "\xff" + `"}`},
		"structured, no type":                 {value: open + `}`},
		"structured, type is null":            {value: open + `,"type":null}`},
		"structured, type is a number":        {value: open + `,"type":1}`},
		"structured, unknown version":         {value: `{"specversion":"2.0","id":"1","source":"/s","type":"t"}`},
		"structured, bad time":                {value: whole + `,"time":"yesterday"}`},
		"structured, long number":             {value: whole + `,"x":2147483648}`},
		"structured, decimal number":          {value: whole + `,"x":1.5}`},
		"structured, bad name":                {value: whole + `,"a_b":"x"}`},
		"structured, both data":               {value: whole + `,"data":1,"data_base64":"AP8="}`},
		"structured, bad base64":              {value: whole + `,"data_base64":"?"}`},
		"structured, text is an object":       {value: whole + `,"datacontenttype":"text/plain","data":{}}`},
		"structured, vendor type is not JSON": {value: whole + `,"datacontenttype":"application/vnd.x+json","data":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.headers == nil {
				c.headers = headers("content-type", "application/cloudevents+json")
			}
			ev := FromRecord(recordOf([]byte(c.value), c.headers), spec)
			require.Equal(t, "dev.knative.kafka.event", ev.Attributes["type"])
			require.Equal(t, c.value, string(ev.Data))
		})
	}
}

// As Jackson writes what it has read into a tree.
func TestDataOfAStructuredEventIsEncodedAgain(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`{ "b" : 1 , "a" : [ ] }`:                   `{"b":1,"a":[]}`,
		`{"a":1,"b":2,"a":3}`:                       `{"a":3,"b":2}`,
		`[null, true, false, {}, -0]`:               `[null,true,false,{},0]`,
		`"\u00e9\u20ac\/<\u2028\u0001\u001F\t\"\\"`: "\"\u00e9\u20ac/<\u2028\\u0001\\u001F\\t\\\"\\\\\"",
		`12345678901234567890`:                      `12345678901234567890`,
		`1.10`:                                      `1.1`,
		`100.00`:                                    `100.0`,
		`1E2`:                                       `100.0`,
		`0.001`:                                     `0.001`,
		`0.0009`:                                    `9.0E-4`,
		`9999999.5`:                                 `9999999.5`,
		`10000000.0`:                                `1.0E7`,
		`123456789012.345678`:                       `1.2345678901234567E11`,
		`12345678901234567890.123`:                  `1.2345678901234567E19`,
		`-0.0`:                                      `-0.0`,
		`2e23`:                                      `2.0E23`,
		`5e-324`:                                    `4.9E-324`,
		`1e400`:                                     `"Infinity"`,
	} {
		got, decimals := encode([]byte(value))
		require.Equal(t, want, string(got))
		isNumber := value[0] >= '-' && value[0] <= '9'
		require.Equal(t, isNumber && strings.ContainsAny(value, ".eE"), decimals, value)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	four, eight := make([]byte, 4), make([]byte, 8)
	binary.BigEndian.PutUint32(four, uint32(0xFFFFFFFE))
	binary.BigEndian.PutUint64(eight, math.Float64bits(1e10))
	half := make([]byte, 4)
	binary.BigEndian.PutUint32(half, math.Float32bits(0.5))
	cases := []struct {
		kind string
		key  []byte
		want string
	}{
		{"string", []byte("AAPL"), "AAPL"},
		{"", []byte("a\xff"), "a\uFFFD"},
		{"unknown", []byte("x"), "x"},
		{"int", four, "-2"},
		{"int", []byte("abc"), "abc"},
		{"float", eight, "1.0E10"},
		{"float", half, "0.5"},
		{"float", []byte("x"), "x"},
		{"byte-array", []byte{1, 2}, "AQI="},
	}
	for _, c := range cases {
		got, ok := keyText(c.key, c.kind)
		require.True(t, ok)
		require.Equal(t, c.want, got, c.kind)
	}
	_, ok := keyText([]byte{}, "string")
	require.False(t, ok)
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for ms, want := range map[int64]string{
		12000: "1970-01-01T00:00:12Z", 12100: "1970-01-01T00:00:12.1Z", 12345: "1970-01-01T00:00:12.345Z", -1: "1969-12-31T23:59:59.999Z",
		// A producer sends microseconds or nanoseconds for milliseconds.
		1_700_000_000_123_456: "+55840-11-08T22:15:23.456Z", -63_000_000_000_000: "-0027-08-11T08:00:00Z", -62_150_000_000_000: "0000-07-18T07:06:40Z",
	} {
		r := recordOf(nil, nil)
		r.Timestamp = time.UnixMilli(ms)
		require.Equal(t, want, FromRecord(r, spec).Attributes["time"])
	}
	for text, want := range map[string]string{
		"2026-11-23T06:59Z": "2026-11-23T06:59:00Z", "2026-11-23t06:59:00.120z": "2026-11-23T06:59:00.12Z",
		"2024-02-29T00:00:00+00:00": "2024-02-29T00:00:00Z", "2024-01-01T00:00:00+0530": "2024-01-01T00:00:00+05:30",
		"2024-01-01T00:00:00-03": "2024-01-01T00:00:00-03:00", "+58877-08-06T12:33:20Z": "+58877-08-06T12:33:20Z",
		"-0004-02-29T00:00:00Z": "-0004-02-29T00:00:00Z", "9999-12-31T23:59:59.999999999Z": "9999-12-31T23:59:59.999999999Z",
	} {
		got, ok := reformatTime(text)
		require.True(t, ok, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{
		"", "2024-01-01", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z",
		"2024-01-01T00:00:00.1234567890Z", "2024-01-01T00:00:00,5Z", "12024-01-01T00:00:00Z",
	} {
		_, ok := reformatTime(text)
		require.False(t, ok, text)
	}
}
