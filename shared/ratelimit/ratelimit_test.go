package ratelimit

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type clock struct{ t time.Time }

// stores are the two implementations on a clock that the test moves.
func stores(t *testing.T) map[string]func() (Store, func(time.Duration)) {
	t.Helper()
	return map[string]func() (Store, func(time.Duration)){
		"memory": func() (Store, func(time.Duration)) {
			c := &clock{start}
			return NewMemory(func() time.Time { return c.t }), func(d time.Duration) { c.t = c.t.Add(d) }
		},
		"redis": func() (Store, func(time.Duration)) {
			server := miniredis.RunT(t)
			c, furthest := &clock{start}, start
			server.SetTime(c.t)
			client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
			t.Cleanup(func() { require.NoError(t, client.Close()) })
			return NewRedis(client, "t:"), func(d time.Duration) {
				c.t = c.t.Add(d)
				server.SetTime(c.t)
				if c.t.After(furthest) { // Redis expires by absolute time; miniredis only counts forward
					server.FastForward(c.t.Sub(furthest))
					furthest = c.t
				}
			}
		},
	}
}

// The promise itself, against a naive model: no window holds more than N admissions, and none is refused needlessly.
func TestNoWindowAdmitsMoreAndNoneIsRefusedNeedlessly(t *testing.T) {
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, advance := open()
			rng := rand.New(rand.NewPCG(7, 7))
			limit := Limit{5, time.Minute}
			now, admitted := start, []time.Time{}
			for range 3000 {
				step := time.Duration(rng.Int64N(int64(30 * time.Second))).Truncate(time.Microsecond)
				switch rng.IntN(4) {
				case 0:
					step = 0
				case 1:
					step = step / 20 * time.Duration(rng.IntN(2)) / time.Microsecond * time.Microsecond
				case 2:
					if len(admitted) > 0 { // exactly at an edge
						step = max(admitted[len(admitted)/2].Add(time.Minute).Sub(now), 0)
					}
				}
				advance(step)
				now = now.Add(step)
				inWindow := 0
				for _, a := range admitted {
					if now.Sub(a) < time.Minute {
						inWindow++
					}
				}
				d, err := store.Take(context.Background(), "c", limit)
				require.NoError(t, err)
				require.Equal(t, inWindow < 5, d.Allowed)
				if d.Allowed {
					admitted = append(admitted, now)
					inWindow++
				}
				require.Equal(t, 5-inWindow, d.Remaining)
				require.Equal(t, admitted[len(admitted)-inWindow].Add(time.Minute).Sub(now), d.Reset)
			}
		})
	}
}

func TestRetryAfterIsExactAndTheClockNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	for name, open := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, advance := open()
			take := func() Decision {
				d, err := store.Take(context.Background(), "c", Limit{2, time.Minute})
				require.NoError(t, err)
				return d
			}
			require.True(t, take().Allowed)
			advance(10 * time.Second)
			require.True(t, take().Allowed)
			advance(-30 * time.Second)
			require.Equal(t, Decision{Reset: 50 * time.Second}, take(), "held at the newest admission")
			advance(30*time.Second + 50*time.Second - time.Microsecond)
			require.False(t, take().Allowed)
			advance(time.Microsecond)
			require.True(t, take().Allowed)
		})
	}
}

func TestFallbackDecidesAloneWithItsShare(t *testing.T) {
	t.Parallel()
	broken := storeFunc(func(context.Context, string, Limit) (Decision, error) { return Decision{}, errors.New("away") })
	f := &Fallback{Shared: broken, Local: NewMemory(func() time.Time { return start }), Budget: time.Second, Copies: 2, Log: slog.New(slog.DiscardHandler)}
	for i := range 4 {
		d, err := f.Take(t.Context(), "c", Limit{5, time.Minute})
		require.NoError(t, err)
		require.True(t, d.Degraded)
		require.Equal(t, i < 2, d.Allowed)
	}
	require.True(t, f.Degraded())
	f.Shared = NewMemory(func() time.Time { return start })
	d, err := f.Take(t.Context(), "c", Limit{5, time.Minute})
	require.NoError(t, err)
	require.False(t, d.Degraded)
	require.False(t, f.Degraded())
}

type storeFunc func(context.Context, string, Limit) (Decision, error)

func (f storeFunc) Take(ctx context.Context, key string, limit Limit) (Decision, error) {
	return f(ctx, key, limit)
}

func TestClient(t *testing.T) {
	t.Parallel()
	var trusted Proxies
	require.NoError(t, trusted.UnmarshalText([]byte("127.0.0.0/8, 10.0.0.0/8,::1")))
	cases := map[string]struct {
		peer string
		xff  []string
		want string
	}{
		"peer alone":                   {"203.0.113.9:4711", nil, "203.0.113.9"},
		"untrusted peer, header lies":  {"203.0.113.9:4711", []string{"1.1.1.1"}, "203.0.113.9"},
		"one proxy":                    {"127.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"spoofed left entries":         {"127.0.0.1:1", []string{"1.1.1.1, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
		"several header lines":         {"127.0.0.1:1", []string{"1.1.1.1", "203.0.113.9", "10.1.2.3"}, "203.0.113.9"},
		"port stripped":                {"127.0.0.1:1", []string{"203.0.113.9:1234"}, "203.0.113.9"},
		"garbage ends the walk":        {"127.0.0.1:1", []string{"203.0.113.9, banana, 10.0.0.7"}, "10.0.0.7"},
		"all trusted: left-most":       {"127.0.0.1:1", []string{"10.0.0.1, 10.0.0.2"}, "10.0.0.1"},
		"ipv6 by /64":                  {"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::/64"},
		"ipv6 through a proxy":         {"[::1]:1", []string{"[2001:db8:1:2::9]:55"}, "2001:db8:1:2::/64"},
		"mapped ipv4 is ipv4":          {"[::ffff:203.0.113.9]:1", nil, "203.0.113.9"},
		"empty entry ends at the peer": {"127.0.0.1:1", []string{""}, "127.0.0.1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			for _, v := range c.xff {
				r.Header.Add("X-Forwarded-For", v)
			}
			require.Equal(t, c.want, Client(r, trusted))
		})
	}
}

func TestLimitText(t *testing.T) {
	t.Parallel()
	var l Limit
	require.NoError(t, l.UnmarshalText([]byte("5/1m")))
	require.Equal(t, Limit{5, time.Minute}, l)
	for _, bad := range []string{"", "5", "0/1m", "-1/1m", "5/x", "x/1m", "5/0s", "99999/1m"} {
		require.Error(t, l.UnmarshalText([]byte(bad)), bad)
	}
}
