//go:build integration

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// produceAny produces any record that Kafka accepts.
func produceAny(t *testing.T, brokers kafkaclient.Config, m *kafka.Message) int64 {
	t.Helper()
	p, err := kafka.NewProducer(brokers.Map(kafka.ConfigMap{"message.max.bytes": 3 << 20, "enable.metrics.push": false}))
	require.NoError(t, err)
	defer p.Close()
	done := make(chan kafka.Event, 1)
	require.NoError(t, p.Produce(m, done))
	got, ok := (<-done).(*kafka.Message)
	require.True(t, ok)
	require.NoError(t, got.TopicPartition.Error)
	return int64(got.TopicPartition.Offset)
}

// dice makes letters at and around every bound.
type dice struct{ *rand.Rand }

func (d dice) one(of ...int) int { return of[d.IntN(len(of))] }

func (d dice) bytes(n int) []byte {
	if n < 0 {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(d.Uint32())
	}
	return b
}

// text returns random text: printable, any Unicode, or bytes that are not UTF-8 and contain NUL.
func (d dice) text(n int) string {
	b := make([]byte, n)
	switch d.IntN(3) {
	case 0:
		for i := range b {
			b[i] = byte(0x21 + d.IntN(0x5E))
		}
	case 1:
		return strings.ToValidUTF8(string([]rune(strings.Repeat("é\u202E\u0007日", n/8+1))), "")
	default:
		copy(b, d.bytes(n))
	}
	return string(b)
}

func (d dice) headers() []kafka.Header {
	var out []kafka.Header
	names := []string{
		"ce_id", "ce_source", "ce_type", "ce_specversion", "ce_subject", "ce_time", "ce_correction", "ce_trace id", "ce_a/b", "ce_é", "ce_", "content-type", "traceparent",
		"dlq-code", "dlq-reason", "dlq-failed-at", "dlq-function", "dlq-value-bytes", "__connect.errors.exception.message", "ce_knativeerrordest", "ce_knativeerrorcode",
		"ce_knativeerrordata", "é", "x", "x", "dlq-topic", "dlq-partition", "dlq-offset",
	}
	for range d.one(0, 1, 5, 12, 30) {
		name := names[d.IntN(len(names))]
		value := []byte(d.text(d.one(0, 1, 20, 999, 1000, 1001, 2699, 6000)))
		switch {
		case d.IntN(10) == 0:
			value = nil
		case name == "dlq-failed-at" || name == "ce_time":
			value = []byte([]string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2024-02-30T00:00:00Z", "2024-01-01T00:00:00.123456789Z"}[d.IntN(5)])
		case strings.HasSuffix(name, "partition") || strings.HasSuffix(name, "offset") || name == "dlq-value-bytes" || name == "ce_correction":
			value = []byte([]string{"-1", "0", "2147483647", "2147483648", "9223372036854775807", "1e3", "\x00\x00\x00\x07", "\xff\xff\xff\xff\xff\xff\xff\xff"}[d.IntN(8)])
		case name == "content-type" && d.IntN(2) == 0:
			value = []byte("application/cloudevents+json")
		}
		out = append(out, kafka.Header{Key: name, Value: value})
	}
	switch d.IntN(12) {
	case 0:
		// Together with the largest key and value it still fits the test topics' 2 MiB.
		out = append(out, kafka.Header{Key: "big", Value: d.bytes(1 << 19)})
	case 1:
		for i := range 5000 {
			out = append(out, kafka.Header{Key: "h" + strconv.Itoa(i%7), Value: []byte{byte(i)}})
		}
	}
	return out
}

func (d dice) time() time.Time {
	now := time.Now()
	return []time.Time{
		{},
		now, time.UnixMilli(now.UnixMicro()), time.UnixMilli(now.UnixNano()), time.UnixMilli(0), time.UnixMilli(1), time.UnixMilli(-5), time.UnixMilli(math.MaxInt64),
		time.UnixMilli(math.MinInt64), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	}[d.IntN(11)]
}

// dated reads records with timestamps that our producer cannot write.
type dated struct {
	intake.Records

	at func() time.Time
}

func (r dated) Read(ctx context.Context, at kafkaclient.Place) (kafkaclient.Stored, error) {
	s, err := r.Records.Read(ctx, at)
	s.Timestamp = r.at()
	return s, err
}

// Any dead letter record is stored once, listed and shown, and key, value and headers are the record's own bytes.
func TestNothingAboutALetterKeepsItFromBeingStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	b.intake.Records = dated{b.intake.Records, d.time}
	const letters = 120
	records := map[string]*kafka.Message{} // by value, which is its own
	for i := range letters {
		value := append(d.bytes(d.one(0, 1, 500, 65_535, 65_536, 65_537, 900_000)), []byte("#"+strconv.Itoa(i))...)
		if d.IntN(4) == 0 {
			value = fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/s","type":"t","data":{"symbol":"S%d"}}`, strings.ToValidUTF8(d.text(d.one(3, 6000)), "?"), i)
		}
		m := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &b.dlq, Partition: 0}, Key: d.bytes(d.one(-1, 0, 1, 32, 250_000)), Value: value, Headers: d.headers(),
		}
		records[string(value)] = m
		offset := int(produceAny(t, b.brokers, m))
		require.Equal(t, 204, b.post(offset, value), "letter %d", i)
		if d.IntN(3) == 0 {
			require.Equal(t, 204, b.post(offset, value, "Ce-Id", d.text(6000)), "the same again")
		}
	}
	for id := range b.listed(t, letters) {
		shown := b.show(t, id)
		m := records[string(decoded(t, shown.Value, shown.ValueEncoding))]
		require.NotNil(t, m, id)
		require.Equal(t, 1, shown.FailureCount)
		require.Len(t, shown.Failures, 1)
		require.Equal(t, m.Key, decoded(t, shown.Key, shown.KeyEncoding))
		require.Len(t, shown.Headers, len(m.Headers))
		for i, h := range shown.Headers {
			require.Equal(t, letter.Clean(m.Headers[i].Key), h.Name)
			require.Equal(t, m.Headers[i].Value, decoded(t, h.Value, h.Encoding))
		}
		delete(records, string(m.Value))
	}
	require.Empty(t, records)
	for _, path := range []string{"/dlq/groups", "/dlq/stats"} {
		status, _ := b.do(t, http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, path)
	}
}

// decoded returns the bytes of a value in an answer.
func decoded(t *testing.T, value *string, encoding string) []byte {
	t.Helper()
	if value == nil {
		return nil
	}
	b, err := letter.Decode(*value, encoding)
	require.NoError(t, err)
	return b
}

// listed returns the ids of the whole list, read in pages.
func (b bundle) listed(t *testing.T, want int) map[string]bool {
	t.Helper()
	ids, token := map[string]bool{}, ""
	for {
		status, v := b.do(t, http.MethodGet, "/dlq/messages?limit=7&page_token="+token, "")
		require.Equal(t, http.StatusOK, status, v)
		for _, one := range v["messages"].([]any) {
			id := fmt.Sprint(one.(map[string]any)["id"])
			require.False(t, ids[id], "listed twice")
			ids[id] = true
		}
		if v["next_page_token"] == nil {
			require.Len(t, ids, want)
			return ids
		}
		token = fmt.Sprint(v["next_page_token"])
	}
}

func (b bundle) show(t *testing.T, id string) operators.LetterBody {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/dlq/messages/"+id, nil)
	r.Header.Set("Authorization", "Bearer secret")
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var l operators.LetterBody
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &l))
	return l
}

// Times that JSON cannot hold break no answer, however they came into the tables.
func TestNoStoredTimeBreaksAnAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.intake.Records = dated{b.intake.Records, func() time.Time { return time.UnixMilli(time.Now().UnixMicro()) }}
	offset := produceAny(t, b.brokers, &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &b.dlq, Partition: 0}, Value: lettertest.Poison,
		Headers: []kafka.Header{{Key: "dlq-failed-at", Value: []byte("9999-12-31T23:59:59-23:59")}},
	})
	require.Equal(t, 204, b.post(int(offset), lettertest.Poison))
	l := b.only(t)
	require.Nil(t, l["recorded_at"], "no clock shows that time")
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(l["last_failed_at"]))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	for _, stored := range []string{"infinity", "-infinity", "58877-01-01", "4000-01-01 BC"} {
		_, err := b.pool.Exec(t.Context(), `update dead_letters set first_failed_at = $1::text::timestamptz, last_failed_at = $1::text::timestamptz, recorded_at = $1::text::timestamptz`, stored)
		require.NoError(t, err)
		_, err = b.pool.Exec(t.Context(), `update dead_letter_failures set failed_at = $1::text::timestamptz`, stored)
		require.NoError(t, err)
		path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
		for _, action := range []string{"discard", "restore"} {
			status, body := b.do(t, http.MethodPost, path+"/"+action, `{"reason":"x"}`)
			require.Equal(t, http.StatusOK, status, "%s %s %v", stored, action, body)
		}
		b.target.Status = http.StatusUnprocessableEntity
		status, _ := b.do(t, http.MethodPost, path+"/replay", `{"force":true}`)
		require.Equal(t, http.StatusOK, status, stored)
		status, _ = b.do(t, http.MethodGet, "/dlq/groups", "")
		require.Equal(t, http.StatusOK, status, stored)
	}
	for i := range 3 { // pages pass over such letters
		b.keep(t, letter.Letter{Value: []byte{byte(i)}}, deadletter.Failure{Code: "x", FailedAt: time.Now()})
	}
	_, err = b.pool.Exec(t.Context(), "update dead_letters set last_failed_at = (array['infinity', '-infinity', '58877-01-01', '-infinity'])[1 + mod(abs(hashtext(id::text)), 4)]::timestamptz")
	require.NoError(t, err)
	b.listed(t, 4)
	require.Len(t, b.pages(t, 1), 4)
}

// pages returns the ids of the whole list, read in pages of a size.
func (b bundle) pages(t *testing.T, limit int) []string {
	t.Helper()
	var ids []string
	for token := ""; ; {
		status, v := b.do(t, http.MethodGet, fmt.Sprintf("/dlq/messages?limit=%d&page_token=%s", limit, token), "")
		require.Equal(t, http.StatusOK, status, v)
		for _, one := range v["messages"].([]any) {
			ids = append(ids, fmt.Sprint(one.(map[string]any)["id"]))
		}
		if v["next_page_token"] == nil {
			return ids
		}
		token = fmt.Sprint(v["next_page_token"])
	}
}

func TestHeadersShowAllValuesInOrderNullToldFromEmpty(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	offset := produceAny(t, b.brokers, &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &b.dlq, Partition: 0}, Value: []byte("x"), Headers: []kafka.Header{
		{Key: "trace", Value: []byte("one")}, {Key: "trace", Value: []byte("two")}, {Key: "trace", Value: []byte{}}, {Key: "trace"},
	}})
	require.Equal(t, 204, b.post(int(offset), []byte("x")))
	require.Equal(t, []any{
		map[string]any{"name": "trace", "value": "one", "encoding": "text"},
		map[string]any{"name": "trace", "value": "two", "encoding": "text"},
		map[string]any{"name": "trace", "value": "", "encoding": "text"},
		map[string]any{"name": "trace", "value": nil, "encoding": "text"},
	}, b.only(t)["headers"])
}

// Text that is too long for an index is cut there and kept whole elsewhere; texts that differ only at their ends stay different.
func TestWhatIsTooLongForAnIndexIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := dice{rand.New(rand.NewPCG(7, 7))}.bytes(3000)
	id := fmt.Sprintf("%x", long)
	for i, h := range [][]kafkaclient.Header{
		lettertest.Headers("ce_id", id+"1", "ce_source", id), lettertest.Headers("ce_id", id+"2", "ce_source", id),
		lettertest.Headers("dlq-topic", id+"1", "dlq-partition", "0", "dlq-offset", "1"), lettertest.Headers("dlq-topic", id+"2", "dlq-partition", "0", "dlq-offset", "1"),
	} {
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: h})
		for range 2 {
			require.Equal(t, 204, b.post(i, lettertest.Poison))
		}
	}
	for letter := range b.listed(t, 4) {
		require.True(t, strings.HasPrefix(b.show(t, letter).Attributes["id"]+id, id))
	}
	status, _ := b.do(t, http.MethodGet, "/dlq/messages?q=x", "")
	require.Equal(t, http.StatusOK, status)
}

// A value that was cut is read whole if the original is still at its place.
func TestACutValueIsReadFromItsOriginal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	whole := bytes.Repeat([]byte("0123456789"), 100_000)
	b.produce(t, kafkaclient.Record{Topic: b.topic, Key: []byte("K"), Value: whole})
	for i, offset := range []string{"0", "5"} {
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: whole[:1000], Headers: lettertest.Headers(
			"dlq-topic", b.topic, "dlq-partition", "0", "dlq-offset", offset, "dlq-code", "body_too_large",
			"dlq-value-bytes", "1000000", "dlq-value-sha256", fmt.Sprintf("%x", sha256.Sum256(whole)))})
		require.Equal(t, 204, b.post(i, whole[:1000]))
	}
	for id := range b.listed(t, 2) {
		l := b.show(t, id)
		if *l.Offset == 0 {
			require.True(t, l.Exact)
			require.Len(t, *l.Value, len(whole))
			require.Zero(t, l.ValueBytes)
		} else {
			require.False(t, l.Exact)
			require.Len(t, *l.Value, 1000)
			require.EqualValues(t, len(whole), l.ValueBytes, "the length of the whole value")
		}
	}
}
