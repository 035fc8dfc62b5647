package crowd_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/crowd"
	"marketdata/shared/fault"
)

// Of a thousand requests that come at once, those that have no turn within a moment are refused. They do not keep others waiting.
func TestOnlySomeHaveTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := crowd.New(4, time.Second)
		for range 2 {
			began, refused := time.Now(), make(chan time.Duration, 1000)
			for range 1000 {
				go func() {
					if err := c.Enter(t.Context()); fault.CodeOf(err) == fault.CodeOverloaded && fault.KindOf(err) == fault.Unavailable {
						refused <- time.Since(began)
					}
				}()
			}
			synctest.Wait()
			c.Leave() // the first in line has its turn
			time.Sleep(time.Second - time.Nanosecond)
			require.Empty(t, refused)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Len(t, refused, 1000-4-1)
			require.Equal(t, time.Second, <-refused)
			for range 4 {
				c.Leave()
			}
		}
	})
}

// A request whose client goes away leaves its place in the line.
func TestAClientThatGoesAwayLeavesTheLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := crowd.New(1, time.Second)
		require.NoError(t, c.Enter(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		for range 256 {
			go func() { _ = c.Enter(ctx) }()
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		go c.Leave()
		require.NoError(t, c.Enter(t.Context()), "it waits in the line")
	})
}
