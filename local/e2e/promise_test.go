//go:build integration

package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var promiseSeed = flag.Uint64("promise-seed", 0, "seed of TestEveryRecordIsAppliedOrDeadLettered; 0: a new one")

// The promise: any record on price-events is either applied, or becomes a dead letter with its bytes. The records are random, with
// sizes around the limits of every hop; a failure prints the seed and the record.
func TestEveryRecordIsAppliedOrDeadLettered(t *testing.T) {
	t.Parallel()
	const n = 400
	seed := *promiseSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -promise-seed=%d", seed)
	s := start(t, newDir(t))
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), topic: s.topics().Events}
	all := s.put(t, g, n)
	most := n * 3 / 4
	if _, given := givenBroker(); given {
		most = n / 2 // Apache Kafka refuses more: see put
	}
	require.Greater(t, len(all), most, "the topic accepts most records")
	for _, p := range all {
		p.check(t, s)
	}
	letters := 0
	for _, p := range all {
		if !p.good {
			letters++
		}
	}
	s.eventually(t, []string{strconv.Itoa(letters)}, "select count(*)::text from dead_letters") // no others
	t.Logf("%d records: %d applied, %d letters", len(all), len(all)-letters, letters)
}

// put produces n records, each in a batch of its own, and returns those that the topic accepted.
func (s *stack) put(t *testing.T, g *generator, n int) (taken []promised) {
	t.Helper()
	clients := map[bool]*kgo.Client{}
	for packed, codec := range map[bool]kgo.CompressionCodec{false: kgo.NoCompression(), true: kgo.ZstdCompression()} {
		c, err := kgo.NewClient(append(franz(t, s.kafka()), kgo.ProducerBatchCompression(codec),
			kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(100<<20), kgo.ProducerLinger(0))...)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		clients[packed] = c
	}
	for range n {
		p := g.next()
		err := clients[p.packed].ProduceSync(t.Context(), p.record).FirstErr()
		// Apache Kafka also refuses times in the far future, and before 1970 in a batch that it decompresses: "unknown server error".
		if slices.ContainsFunc([]error{kerr.MessageTooLarge, kerr.InvalidTimestamp, kerr.UnknownServerError}, func(e error) bool { return errors.Is(err, e) }) {
			continue // not on the topic
		}
		require.NoError(t, err, p.what)
		taken = append(taken, p)
	}
	return taken
}

func (p promised) check(t *testing.T, s *stack) {
	t.Helper()
	place := fmt.Sprintf("%s, as partition %d offset %d", p.what, p.record.Partition, p.record.Offset)
	var applied int
	var letters int
	var code string
	var value []byte
	require.Eventually(t, func() bool {
		require.NoError(t, s.pool.QueryRow(t.Context(), `select
			(select count(*) from price_points where symbol = $1),
			(select count(*) from dead_letters where topic = $4 and partition = $2 and record_offset = $3)`,
			p.symbol, p.record.Partition, p.record.Offset, p.record.Topic).Scan(&applied, &letters))
		return applied+letters > 0
	}, 60*time.Second, 20*time.Millisecond, place)
	if p.good {
		require.Equal(t, []int{1, 0}, []int{applied, letters}, place)
		return
	}
	require.Equal(t, []int{0, 1}, []int{applied, letters}, place)
	require.NoError(t, s.pool.QueryRow(t.Context(), `select code, value from dead_letters where topic = $3 and partition = $1 and record_offset = $2`,
		p.record.Partition, p.record.Offset, p.record.Topic).Scan(&code, &value))
	want := p.record.Value
	if p.data != nil {
		want = p.data
	}
	require.True(t, bytes.Equal(want, value), "%s: the value differs: got %d bytes, want %d", place, len(value), len(want))
}
