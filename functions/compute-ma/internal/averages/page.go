package averages

import (
	"context"
	"crypto/sha256"
	"runtime"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
	"marketdata/shared/fault"
)

// cursor is where the next page of a history begins.
type cursor struct {
	After int64  `json:"a"`           // point of the last average shown
	State string `json:"s,omitempty"` // the ema after it

	ema *decimal.Decimal // State, decoded
}

// newPageKey returns the key that signs page tokens, so that one can only hold a state that an answer has shown. It is derived from
// DATABASE_URL, the one secret that all replicas share.
func newPageKey(databaseURL string) []byte {
	key := sha256.Sum256([]byte("compute-ma page tokens\n" + databaseURL))
	return key[:]
}

// queryOf is the query that page tokens of a history belong to.
func (a *API) queryOf(in *historyQuery, k series.Key, r series.Range) api.Query {
	return api.QueryOf(k.Symbol, k.Provider, in.Kind, in.Window, r.From, r.To).SignedWith(a.key)
}

// readCursor returns the cursor of the query's token, nil if it has none. The error is [api.ErrPageToken].
func readCursor(query api.Query, in *historyQuery) (*cursor, error) {
	c, err := api.ReadToken[cursor](query, in.PageToken)
	if err != nil || c == nil || in.Kind != ema {
		return c, err
	}
	// If the database has no password, the key can be guessed: the state is bounded all the same.
	state, err := decimal.NewFromString(c.State)
	if err != nil || len(c.State) > maxState || strings.ContainsAny(c.State, "eE+-") || state.Sign() <= 0 {
		return nil, api.ErrPageToken
	}
	c.ema = &state
	return c, nil
}

// maxState is the longest ema: a price's 20 digits before the point, and [series.StatePlaces] after it.
const maxState = 20 + 1 + series.StatePlaces

// slots limit how many histories are computed at once to half of the CPUs, so that events have the rest.
type slots chan struct{}

func newSlots() slots { return make(slots, max(runtime.GOMAXPROCS(0)/2, 1)) }

// take waits for a slot until ctx ends; then the error is Unavailable with code "overloaded".
func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, fault.CodeOverloaded, "too many histories are being computed").After(time.Second)
	}
}

func (s slots) give() { <-s }
