package flight

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

// refuse makes Redis refuse scripts whose first key begins with prefix, as it refuses writes while its memory is full.
func (b *bundle) refuse(prefix string) {
	b.server.Server().SetPreHook(func(c *server.Peer, command string, args ...string) bool {
		refused := (command == "EVAL" || command == "EVALSHA") && strings.HasPrefix(args[2], prefix)
		if refused {
			c.WriteError("OOM command not allowed when used memory > 'maxmemory'.")
		}
		return refused
	})
}

// A price is answered even if the cache refuses it, because it is stored. Another replica need not wait for the end of the lease.
func TestAPriceThatTheCacheRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.refuse("price:")
	go func() { b.result <- nil }()
	entry, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.Equal(t, quoteOf("yfinance", "AAPL"), entry.Quote)
	require.Equal(t, rawID, entry.RawResponseID)
	require.Empty(t, b.server.Keys(), "the lock is released")
	require.Equal(t, 1, strings.Count(b.log.String(), "level=WARN"), b.log.String())
	require.Contains(t, b.log.String(), "could not write the cache")
}

// A fetch that fails while Redis is away fails with its own error. Only a lock that was taken has to be released.
func TestAFetchThatFailsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.replicas[0].fetch = func(context.Context, string, market.Symbol) (ingest.Result, error) {
		b.server.Close()
		return ingest.Result{}, fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
	}
	for _, want := range []string{"could not release the lock", "fetching without a lock"} {
		b.log.Reset()
		_, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
		require.Equal(t, fault.CodeSymbolNotFound, fault.CodeOf(err))
		require.Equal(t, 1, strings.Count(b.log.String(), "level=WARN"), b.log.String())
		require.Contains(t, b.log.String(), want)
	}
	b.replicas[0].fetch = b.fetch
	go func() { b.result <- nil }()
	b.log.Reset()
	_, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.Contains(t, b.log.String(), "could not write the cache")
	require.NotContains(t, b.log.String(), "release lock")
}

// A lock that cannot be released would make other replicas wait: the caller fetches, though there is an error to share.
func TestALookThatCannotReleaseItsLock(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	l, s := b.replicas[0].locks, series{"yfinance", "AAPL"}
	_, err := l.look(t.Context(), s, "first")
	require.NoError(t, err)
	require.NoError(t, l.free(t.Context(), s, "first", errors.New("shared")))
	b.refuse("flight:lock:")
	_, err = l.look(t.Context(), s, "second")
	require.ErrorContains(t, err, "release lock")
}

// A look at a series whose lock another replica holds is a single round trip, also while an error is shared.
func TestALookIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	require.NoError(t, b.server.Set("flight:lock:yfinance:AAPL", "another"))
	require.NoError(t, b.server.Set("flight:failure:yfinance:AAPL", encodeFailure(errors.New("x"))))
	before := 0
	for range 2 { // the first opens a connection
		before = b.server.CommandCount()
		seen, err := b.replicas[0].locks.look(t.Context(), series{"yfinance", "AAPL"}, "mine")
		require.NoError(t, err)
		require.Error(t, seen.failure)
		require.False(t, seen.held)
	}
	require.Equal(t, 4, b.server.CommandCount()-before, "the lock, the error, the price and the clock")
}

// A fetch that nobody waits for costs two round trips: the look, and the price that also releases the lock.
func TestCommandsOfAFetch(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	commands := 0
	for range 2 { // the first opens a connection, and loads the script
		b.server.Del("price:yfinance:AAPL")
		before := b.server.CommandCount()
		go func() { b.result <- nil }()
		_, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
		require.NoError(t, err)
		commands = b.server.CommandCount() - before
	}
	require.Equal(t, 4+6, commands, "of the look, and the script with its five")
}

// A replica that ends does not wait for another one's fetch.
func TestCloseEndsAWait(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	g := b.replicas[0]
	_, err := g.locks.look(t.Context(), series{"yfinance", "AAPL"}, "another")
	require.NoError(t, err)
	before := b.server.CommandCount()
	results := b.ask(t, 1)
	require.Eventually(t, func() bool { return b.server.CommandCount() > before }, 10*time.Second, time.Millisecond)
	g.Close()
	b.replicas = nil
	require.Equal(t, fault.CodeProviderTimeout, fault.CodeOf(<-results))
	require.Zero(t, b.calls.Load())
}
