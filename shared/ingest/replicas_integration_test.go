//go:build integration

package ingest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTwoSweepersShareTheRows(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = string(rune('a'+i%26)) + time.Duration(i).String()
	}
	b.rows(t, keys...)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for range 2 {
		wg.Go(func() {
			for {
				n, err := b.in.Sweep(context.Background(), 7)
				if err != nil || n == 0 {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	seen := map[string]int{}
	for _, r := range b.pub.records {
		seen[string(r.Key)]++
	}
	require.Len(t, seen, 100)
	require.Len(t, b.pub.records, 100, "no row is published twice")
	require.Zero(t, b.count(t, "outbox"))
}

// A row that another replica is working on holds up neither a sweep nor retention.
func TestReplicasDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A", "B")
	_, err := b.pool.Exec(t.Context(), `
		insert into raw_responses (id, provider, symbol, status, body, received_at)
		select gen_random_uuid(), 'fake', symbol, 200, 'body', now() - interval '1 day' from unnest(array['A', 'B']) symbol`)
	require.NoError(t, err)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing was written
	_, err = tx.Exec(t.Context(), "select from outbox, raw_responses where key = 'A' and symbol = 'A' for update")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n, err := b.in.Sweep(ctx, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	dropped, err := b.in.DropBodies(ctx, time.Hour, 10)
	require.NoError(t, err)
	require.EqualValues(t, 1, dropped)
}
