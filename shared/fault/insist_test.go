package fault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

func TestInsist(t *testing.T) {
	t.Parallel()
	away := fault.New(fault.Unavailable, "away", "x")
	for name, c := range map[string]struct {
		errs []error // of the calls; the last is that of all further ones
		want error
		took time.Duration
	}{
		"at once":             {[]error{nil}, nil, 0},
		"after two errors":    {[]error{away, away, nil}, nil, 300 * time.Millisecond},
		"another error":       {[]error{away, context.Canceled}, context.Canceled, 100 * time.Millisecond},
		"always unavailable":  {[]error{away}, away, 3100 * time.Millisecond},
		"an error of no kind": {[]error{errors.ErrUnsupported}, errors.ErrUnsupported, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, calls := time.Now(), 0
				err := fault.Insist(t.Context(), func(context.Context) error {
					calls++
					return c.errs[min(calls, len(c.errs))-1]
				})
				require.Equal(t, c.want, err)
				require.Equal(t, c.took, time.Since(began))
			})
		})
	}
}

func TestInsistEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.Error(t, fault.Insist(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return fault.Wrap(ctx.Err(), fault.Unavailable, "away", "x")
		}))
		require.Equal(t, 8*time.Second, time.Since(began))
	})
}
