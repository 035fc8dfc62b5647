package fetch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// A call that ends because the tick's time is up says nothing about its provider.
func TestACallThatRunsOutOfTimeIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		u.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error {
			<-ctx.Done()
			return fault.Wrap(ctx.Err(), fault.Unavailable, fault.CodeProviderTimeout, "x")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := u.fetch(ctx, "p", "AAPL")["AAPL"]
		require.Equal(t, Result{Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: fault.CodeProviderTimeout}}, r)
	})
}

func TestAnswered(t *testing.T) {
	t.Parallel()
	for outcome, answered := range map[jobs.Outcome]bool{
		jobs.OK: true, fault.CodeSymbolNotFound: true, fault.CodeProviderMalformed: true, fault.CodeProviderAuth: true,
		fault.CodeProviderTimeout: false, fault.CodeProviderUnavailable: false, fault.CodeProviderRateLimited: false,
		fault.CodeStorageUnavailable: false, jobs.OutOfTime: false,
	} {
		require.Equal(t, answered, Result{Asked: true, Result: jobs.Result{Outcome: outcome}}.Answered(), outcome)
		require.False(t, Result{Result: jobs.Result{Outcome: outcome}}.Answered(), outcome)
	}
}

// A provider hangs after some timeouts in a row; an answer between them starts the count again.
func TestTimeoutsInARow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, slow := newLane("p"), fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x")
		for range 2 {
			l.note(nil)
			for range hangsAfter - 1 {
				l.note(slow)
				require.False(t, l.hangs())
			}
		}
		l.note(slow)
		require.True(t, l.hangs())
	})
}
