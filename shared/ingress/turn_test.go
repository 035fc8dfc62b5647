package ingress_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"marketdata/shared/crowd"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
)

// While as many events are worked on as may be, others are refused, and their platforms deliver them again. Those that a refusal would lose
// are handled all the same, and so are ticks.
func TestEventsBeyondTheCrowdAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	tick := event.New()
	tick.SetType("dev.knative.sources.ping")
	for name, c := range map[string]struct {
		delivery ingress.Delivery
		handled  bool
	}{
		"of a platform that retries":     {ingress.Delivery{Header: http.Header{}}, false},
		"of one that ignores the answer": {ingress.Delivery{Header: http.Header{}, StatusIgnored: true}, true},
		"tick":                           {ingress.Delivery{Header: http.Header{}, Event: tick}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				turns, handled := crowd.New(1, time.Second), 0
				handle := ingress.InTurn(turns, func(context.Context, ingress.Delivery) error { handled++; return nil })
				require.NoError(t, turns.Enter(t.Context()))
				err := handle(t.Context(), c.delivery)
				if !c.handled {
					require.Equal(t, fault.CodeOverloaded, fault.CodeOf(err))
					require.Equal(t, fault.Unavailable, fault.KindOf(err))
					turns.Leave()
					err = handle(t.Context(), c.delivery) // again
					require.NoError(t, turns.Enter(t.Context()), "it has left")
				}
				require.NoError(t, err)
				require.Equal(t, 1, handled)
			})
		})
	}
}
