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

// Of a thousand requests that come at once, as many have their turn or wait as there is room for. The others do not wait in vain. Those
// that get no turn leave their place in the line.
func TestOnlySomeWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := crowd.New(4, 256)
		for range 2 {
			began, refused := time.Now(), make(chan time.Duration, 1000)
			for range 1000 {
				go func() {
					if fault.CodeOf(c.Enter(t.Context())) == fault.CodeOverloaded {
						refused <- time.Since(began)
					}
				}()
			}
			synctest.Wait()
			require.Len(t, refused, 1000-4-256)
			for len(refused) > 0 {
				require.Zero(t, <-refused)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, refused, 256)
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
		c := crowd.New(1, 256)
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
