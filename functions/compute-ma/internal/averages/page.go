package averages

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
	"marketdata/shared/fault"
)

// cursor is where the next page of a history begins. It is valid for one query.
type cursor struct {
	Query []byte `json:"q"`
	After int64  `json:"a"`           // point of the last average shown
	State string `json:"s,omitempty"` // the ema after it
	Sum   []byte `json:"m"`           // MAC of all the above, see [pageKey]

	ema *decimal.Decimal // State, decoded
}

// pageKey signs cursors, so that a page token can only hold a state that an answer has shown. It is derived from DATABASE_URL, the
// one secret that all replicas share.
type pageKey []byte

func newPageKey(databaseURL string) pageKey {
	key := sha256.Sum256([]byte("compute-ma page tokens\n" + databaseURL))
	return key[:]
}

const sumLength = 16 // bytes

func (p pageKey) sum(c *cursor) []byte {
	mac := hmac.New(sha256.New, p)
	_, _ = fmt.Fprintf(mac, "%x %d %s", c.Query, c.After, c.State) // never fails
	return mac.Sum(nil)[:sumLength]
}

// write returns the token of c.
func (p pageKey) write(c *cursor) string {
	c.Sum = p.sum(c)
	return api.Token(c)
}

// read returns the cursor in the query's token, nil if it has none. Errors are Invalid with code "invalid_parameter".
func (p pageKey) read(in *historyQuery, k series.Key, r series.Range) (*cursor, error) {
	c, err := api.ReadToken[cursor](in.PageToken)
	if err != nil || c == nil {
		return nil, err
	}
	if !hmac.Equal(c.Query, fingerprint(in, k, r)) || !hmac.Equal(c.Sum, p.sum(c)) {
		return nil, badToken()
	}
	if in.Kind != ema {
		return c, nil
	}
	// If the database has no password, the key can be guessed: the state is bounded all the same.
	state, err := decimal.NewFromString(c.State)
	if err != nil || len(c.State) > maxState || strings.ContainsAny(c.State, "eE+-") || state.Sign() <= 0 {
		return nil, badToken()
	}
	c.ema = &state
	return c, nil
}

// maxState is the longest ema: a price's 20 digits before the point, and [series.StatePlaces] after it.
const maxState = 20 + 1 + series.StatePlaces

func fingerprint(in *historyQuery, k series.Key, r series.Range) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %s %d %d %d", k.Symbol, k.Provider, in.Kind, in.Window, r.From, r.To))
	return sum[:6]
}

func badToken() error {
	return fault.New(fault.Invalid, fault.CodeInvalidParameter, "page_token is not one of this query's")
}

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
