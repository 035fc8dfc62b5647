//go:build integration

package ingest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// The end of a tick is not an error of the database, whether the sweep waits for a slot or for rows by then.
func TestASweepWithoutTimeIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A")
	ctx, end := context.WithCancel(t.Context())
	end()
	for range 20 {
		n, err := b.in.Sweep(ctx, 10)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	require.Equal(t, 1, b.count(t, "outbox where attempts = 0"))
}

// swept is what a sweep returned.
type swept struct {
	n   int
	err error
}

// beginSweep begins a sweep, which stop interrupts.
func (b bundle) beginSweep(t *testing.T) (stop func(), done chan swept) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done = make(chan swept, 1)
	go func() {
		n, err := b.in.Sweep(ctx, 10)
		done <- swept{n, err}
	}()
	return stop, done
}

// A sweep that is interrupted returns once the rows of acknowledged events are deleted: the next one would publish these again.
func TestAnInterruptedSweepDeletesWhatItPublished(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A", "HANG")
	b.exec(t, `
		create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.2); return null; end $$;
		create trigger slow before delete on outbox for each statement execute function slow()`)
	stop, done := b.beginSweep(t)
	require.Eventually(t, func() bool { return b.pub.published() == 1 }, 4*time.Second, time.Millisecond)
	stop()
	require.Equal(t, swept{1, nil}, <-done)
	require.Equal(t, 1, b.count(t, "outbox"), "the one that hangs")
}

// A sweep that cannot claim more rows waits for those in flight, and counts them.
func TestAFailingSweepWaitsForItsRows(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.pub.slow = 200 * time.Millisecond
	b.rows(t, "A")
	b.exec(t, `
		create sequence claims;
		create function fail_later() returns trigger language plpgsql as $$
		begin
			if nextval('claims') > 1 then raise exception 'x'; end if;
			return null;
		end $$;
		create trigger fail_later before update on outbox for each statement execute function fail_later()`)
	n, err := b.in.Sweep(t.Context(), 2)
	require.Equal(t, fault.CodeStorageUnavailable, fault.CodeOf(err))
	require.Equal(t, 1, n)
}

func TestErrorsOfUpkeep(t *testing.T) {
	t.Parallel()
	sweep := func(ctx context.Context, in *Ingester) error {
		_, err := in.Sweep(ctx, 10)
		return err
	}
	drop := func(ctx context.Context, in *Ingester) error {
		_, err := in.DropBodies(ctx, time.Hour, 10)
		return err
	}
	for name, c := range map[string]struct {
		defect string
		do     func(context.Context, *Ingester) error
	}{
		"claim":     {"alter table outbox rename column next_attempt_at to gone", sweep},
		"measure":   {"alter table outbox rename column created_at to gone", sweep},
		"retention": {"alter table raw_responses rename column received_at to gone", drop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, provider{})
			b.exec(t, c.defect)
			require.Equal(t, fault.CodeStorageUnavailable, fault.CodeOf(c.do(t.Context(), b.in)))
		})
	}
}
