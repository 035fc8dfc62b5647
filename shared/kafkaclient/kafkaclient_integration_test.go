//go:build integration

package kafkaclient_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

func TestProduceAndReadBack(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	topic := testenv.Topic(t, brokers, 1)
	p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	records := []kafkaclient.Record{
		{Topic: topic, Key: []byte{0, 255}, Value: bytes.Repeat([]byte{7}, 1_200_000), Headers: []kafkaclient.Header{{Name: "a", Value: []byte{1}}, {Name: "a", Value: []byte{2}}}},
		{Topic: topic, Key: nil, Value: nil},
		{Topic: topic, Key: []byte("k"), Value: []byte("v")},
	}
	for _, r := range records {
		require.NoError(t, p.Produce(t.Context(), r))
	}
	r := kafkaclient.NewReader(brokers, slog.New(slog.DiscardHandler))
	defer r.Close()
	for _, i := range []int{2, 0, 1, 0} {
		got, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: int64(i)})
		require.NoError(t, err)
		require.Equal(t, records[i].Key, got.Key)
		require.Equal(t, records[i].Value, got.Value)
		require.Equal(t, records[i].Headers, got.Headers)
		require.EqualValues(t, i, got.Offset)
		require.False(t, got.Timestamp.IsZero())
	}
	for _, offset := range []int64{3, 99} {
		_, err := r.Read(t.Context(), kafkaclient.Place{Topic: topic, Offset: offset})
		require.Equal(t, "record_gone", fault.CodeOf(err), "%d", offset)
	}
	_, err := r.Read(t.Context(), kafkaclient.Place{Topic: "no-such-topic"})
	require.Equal(t, "record_gone", fault.CodeOf(err), "no such topic")
	_, err = r.Read(t.Context(), kafkaclient.Place{Topic: topic, Partition: 7})
	require.Equal(t, "record_gone", fault.CodeOf(err), "no such partition")
}

func TestTooLargeIsPermanent(t *testing.T) {
	t.Parallel()
	brokers := testenv.Kafka(t)
	p := kafkaclient.NewProducer(brokers, slog.New(slog.DiscardHandler))
	defer p.Close(time.Second)
	err := p.Produce(t.Context(), kafkaclient.Record{Topic: testenv.Topic(t, brokers, 1), Value: make([]byte, 3<<20)})
	require.Equal(t, "message_too_large", fault.CodeOf(err))
	require.True(t, fault.Permanent(err))
}

func TestMissingBrokerIsTransientWithinTheDeadline(t *testing.T) {
	t.Parallel()
	p := kafkaclient.NewProducer(kafkaclient.At("127.0.0.1:1"), slog.New(slog.DiscardHandler))
	defer p.Close(0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := p.Produce(ctx, kafkaclient.Record{Topic: "t", Value: []byte("x")})
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, fault.Unavailable, fault.KindOf(p.Check("price-events")(ctx)))
	r := kafkaclient.NewReader(kafkaclient.At("127.0.0.1:1"), slog.New(slog.DiscardHandler))
	defer r.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Read(ctx, kafkaclient.Place{Topic: "t"})
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
}
