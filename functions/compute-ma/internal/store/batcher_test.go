package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/coalesce"
	"marketdata/shared/fault"
	"marketdata/shared/priceevent"
)

// A batch is split if one of its events may be the cause, and only then: an outage would otherwise cost a commit for each event.
func TestErrorsThatSplitABatch(t *testing.T) {
	t.Parallel()
	refused := func(code string) error { return &pgconn.PgError{Code: code} }
	for name, c := range map[string]struct {
		err   error
		split bool
	}{
		"cardinality violation":     {refused("21000"), true},
		"value out of range":        {refused("22003"), true},
		"text that is not UTF-8":    {refused("22021"), true},
		"violated check":            {refused("23514"), true},
		"panic":                     {&coalesce.PanicError{Value: "x"}, true},
		"lost connection":           {refused("08006"), false},
		"deadlock":                  {refused("40P01"), false},
		"shutdown of the server":    {refused("57P01"), false},
		"time limit":                {context.DeadlineExceeded, false},
		"index entry that is large": {refused("54000"), false},
	} {
		require.Equal(t, c.split, spoilsBatch(fmt.Errorf("write points: %w", c.err)), name)
	}
}

// The platform delivers an event again unless it alone is to blame.
func TestErrorsOfACommit(t *testing.T) {
	t.Parallel()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // of the case
		err  error
		kind fault.Kind
		code string
	}{
		"a full queue":        {t.Context(), coalesce.ErrFull, fault.Unavailable, "overloaded"},
		"a replica that ends": {t.Context(), coalesce.ErrClosed, fault.Unavailable, "shutting_down"},
		"a panic":             {gone, &coalesce.PanicError{Value: "x"}, fault.Invalid, "panic"},
		"a caller that left":  {gone, context.Canceled, fault.Unavailable, "cancelled"},
		"an outage":           {t.Context(), &pgconn.PgError{Code: "57P01"}, fault.Unavailable, "storage_unavailable"},
		"a refusal":           {t.Context(), &pgconn.PgError{Code: "22003"}, fault.Invalid, "storage_refused"},
	} {
		err := classify(c.ctx, fmt.Errorf("commit: %w", c.err))
		require.Equal(t, c.code, fault.CodeOf(err), name)
		require.Equal(t, c.kind, fault.KindOf(err), name)
	}
}

type applierFunc func(ctx context.Context, all []priceevent.Observation) ([]Effect, error)

func (f applierFunc) Apply(ctx context.Context, all []priceevent.Observation) ([]Effect, error) {
	return f(ctx, all)
}

// A transaction has at most 200 events and 10 s. Of those that wait, 2000 at most, the platform delivers the others again.
func TestLimitsOfOneReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := NewBatcher(applierFunc(func(ctx context.Context, all []priceevent.Observation) ([]Effect, error) {
			end, limited := ctx.Deadline()
			require.True(t, limited)
			require.Equal(t, 10*time.Second, time.Until(end))
			sizes = append(sizes, len(all))
			time.Sleep(time.Second)
			return make([]Effect, len(all)), nil
		}), func(int, time.Duration) {})
		commit := func() { _, _ = b.Commit(t.Context(), priceevent.Observation{}) }
		go commit()
		synctest.Wait()
		for range 2000 {
			go commit()
		}
		synctest.Wait()
		_, err := b.Commit(t.Context(), priceevent.Observation{})
		require.Equal(t, fault.CodeOverloaded, fault.CodeOf(err))
		b.Close()
		require.Equal(t, []int{1, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200}, sizes)
	})
}

// Each transaction is observed with its size and duration, whatever becomes of it.
func TestTransactionsAreObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type observation struct {
			events int
			took   time.Duration
		}
		var all []observation
		var down error
		b := NewBatcher(applierFunc(func(_ context.Context, all []priceevent.Observation) ([]Effect, error) {
			time.Sleep(time.Second)
			return make([]Effect, len(all)), down
		}), func(events int, took time.Duration) { all = append(all, observation{events, took}) })
		for range 3 {
			go func() { _, _ = b.Commit(t.Context(), priceevent.Observation{}) }() // observed below
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		down = errors.New("x")
		_, err := b.Commit(t.Context(), priceevent.Observation{})
		require.Error(t, err)
		b.Close()
		require.Equal(t, []observation{{1, time.Second}, {2, time.Second}, {1, time.Second}}, all)
	})
}
