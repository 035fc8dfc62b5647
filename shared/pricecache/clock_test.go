package pricecache

import (
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

// clocks is a cache whose two clocks the test controls.
type clocks struct {
	cache         *Cache
	server        *miniredis.Miniredis
	redis, writer time.Time
}

func setup(t *testing.T) *clocks {
	t.Helper()
	at := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	c := &clocks{server: miniredis.RunT(t), redis: at, writer: at}
	client := redis.NewClient(&redis.Options{Addr: c.server.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	c.cache = New(client, "t:", time.Minute, 10*time.Minute)
	c.cache.now = func() time.Time { return c.writer }
	c.server.SetTime(at)
	price, err := market.ParsePrice("2")
	require.NoError(t, err)
	_, err = c.cache.Put(t.Context(), market.Quote{Symbol: "AAPL", Provider: "yfinance", Price: price, ObservedAt: at}, uuid.New())
	require.NoError(t, err)
	return c
}

// move moves each clock by its own step.
func (c *clocks) move(redis, writer time.Duration) {
	c.redis, c.writer = c.redis.Add(redis), c.writer.Add(writer)
	c.server.SetTime(c.redis)
}

func (c *clocks) get(t *testing.T) (Entry, bool) {
	t.Helper()
	e, found, err := c.cache.Get(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	return e, found
}

func TestFreshThenStaleThenGone(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.move(59*time.Second, 59*time.Second)
	e, _ := c.get(t)
	require.Equal(t, time.Second, e.Left)
	require.Equal(t, 59*time.Second, e.Age)
	c.move(time.Second, time.Second)
	e, _ = c.get(t)
	require.LessOrEqual(t, e.Left, time.Duration(0))
	require.Equal(t, 9*time.Minute, e.Usable)
	later := e.Later(8 * time.Minute)
	require.Equal(t, time.Minute, later.Usable)
	require.Equal(t, e.Age+8*time.Minute, later.Age)
	require.Equal(t, -8*time.Minute, later.Left)
	c.move(9*time.Minute, 9*time.Minute)
	_, found := c.get(t)
	require.False(t, found)
}

// If one clock is set back, an entry ages by the other.
func TestAgeNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	for name, back := range map[string][2]time.Duration{
		"redis": {-100 * time.Minute, 0}, "redis, a little": {-20 * time.Second, 0},
		"ours": {0, -100 * time.Minute}, "ours, a little": {0, -20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t)
			c.move(40*time.Second, 40*time.Second)
			c.move(back[0], back[1])
			e, found := c.get(t)
			require.True(t, found)
			require.Equal(t, 40*time.Second, e.Age)
			c.move(20*time.Second, 20*time.Second)
			e, _ = c.get(t)
			require.LessOrEqual(t, e.Left, time.Duration(0))
			c.move(9*time.Minute, 9*time.Minute)
			_, found = c.get(t)
			require.False(t, found)
		})
	}
}

// A clock that jumps ahead makes an entry look older, never younger. If both are set back, the entry is unusable rather than
// fresh forever.
func TestOtherJumpsOfTheClocks(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.move(0, 5*time.Minute)
	e, _ := c.get(t)
	require.LessOrEqual(t, e.Left, time.Duration(0))

	c = setup(t)
	c.move(-time.Second, -time.Second)
	e, found := c.get(t)
	require.True(t, found)
	require.Zero(t, e.Age)

	c = setup(t)
	c.move(-time.Minute, -time.Minute)
	_, found = c.get(t)
	require.True(t, found)
	c.move(-time.Microsecond, -time.Microsecond)
	_, found = c.get(t)
	require.False(t, found)
}

// A quote may be ahead of the later clock by five minutes. One that is further ahead does not keep others out.
func TestTheFurthestTimeAhead(t *testing.T) {
	t.Parallel()
	for name, back := range map[string][2]time.Duration{"both clocks agree": {}, "redis is behind": {-time.Hour, 0}, "ours is behind": {0, -time.Hour}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t)
			later := c.redis
			c.move(back[0], back[1])
			put := func(price string, at time.Time) string {
				exact, err := market.ParsePrice(price)
				require.NoError(t, err)
				e, err := c.cache.Put(t.Context(), market.Quote{Symbol: "AAPL", Provider: "yfinance", Price: exact, ObservedAt: at}, uuid.New())
				require.NoError(t, err)
				return e.Quote.Price.String()
			}
			require.Equal(t, "3", put("3", later.Add(ahead)))
			require.Equal(t, "3", put("4", later.Add(time.Second)))
			require.Equal(t, "5", put("5", later.Add(ahead+time.Microsecond)))
			require.Equal(t, "6", put("6", later.Add(time.Second)))
		})
	}
}

// An error of Redis is not taken for a foreign value: who reads the log has to know.
func TestErrorsOfRedis(t *testing.T) {
	t.Parallel()
	c := setup(t)
	c.server.SetError("LOADING Redis is loading the dataset in memory")
	_, found, err := c.cache.Get(t.Context(), "yfinance", "AAPL")
	require.ErrorContains(t, err, "LOADING")
	require.False(t, found)
	_, err = c.cache.Put(t.Context(), market.Quote{Symbol: "AAPL", Provider: "yfinance"}, uuid.New())
	require.ErrorContains(t, err, "LOADING")
}

// An entry whose age is not known is an error.
func TestWithoutTheTimeOfRedis(t *testing.T) {
	t.Parallel()
	c := setup(t)
	value, err := c.server.Get("t:yfinance:AAPL")
	require.NoError(t, err)
	refused := errors.New("NOPERM this user has no permissions to run the 'time' command")
	looked := &Lookup{
		c.cache, "yfinance", []market.Symbol{"AAPL"}, []*redis.StringCmd{redis.NewStringResult(value, nil)}, redis.NewTimeCmdResult(time.Time{}, refused),
	}
	_, found, err := looked.Entry(0)
	require.ErrorIs(t, err, refused)
	require.False(t, found)
}

// A value with a byte that cannot be there is not ours, wherever the byte is.
func TestASpoiltValueIsForeign(t *testing.T) {
	t.Parallel()
	const price = "150.25"
	exact, err := market.ParsePrice(price)
	require.NoError(t, err)
	q := market.Quote{Price: exact, ObservedAt: time.UnixMicro(1710930600123456), Currency: "GBp"}
	valid := rank(q, uuid.New()) + digits(time.UnixMicro(2)) + digits(time.UnixMicro(3)) + rest(q)
	_, err = decode(valid)
	require.NoError(t, err)
	for i := range timesEnd + len(price) {
		if i >= len(tag) && i < len(tag)+timeLength {
			continue // the time of the rank is only compared
		}
		_, err := decode(valid[:i] + "z" + valid[i+1:])
		require.ErrorIs(t, err, errForeign, "byte %d", i)
	}
	for n := range timesEnd + len(price) + 1 {
		_, err := decode(valid[:n])
		require.ErrorIs(t, err, errForeign, "%d bytes", n)
	}
}
