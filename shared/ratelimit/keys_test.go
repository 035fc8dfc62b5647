package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/call"
)

func keyed(name, key, rest string) string {
	sum := sha256.Sum256([]byte(key))
	return name + ":" + hex.EncodeToString(sum[:]) + rest
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	var c Config
	c.APIKeys = Keys(keyed("alice", "a-key", "") + ", " + keyed("bob", "b-key", ":1/1m") + "," + keyed("alice", "a-new-key", "") + "," + keyed("nobody", "", ""))
	_, err := c.APIKeys.parse()
	require.NoError(t, err)
	guarded := Policy{Name: "guarded", Limit: Limit{2, time.Minute}, Guarded: true}
	s := newSite(t, c, things(Limit{2, time.Minute}), guarded)
	var client string
	s.seen = func(ctx context.Context) { client = Client(ctx) }
	post := func(path string, header ...string) *httptest.ResponseRecorder {
		return s.post(path, `{"n":1}`, header...)
	}

	for i, header := range [][]string{nil, {keyHeader, "unknown"}} {
		w := post("/things", header...)
		require.Equal(t, http.StatusUnauthorized, w.Code)
		require.Equal(t, "unauthorized", call.Problem(t, w).Code)
		require.Contains(t, w.Header().Get("WWW-Authenticate"), keyHeader)
		require.NotContains(t, w.Body.String(), "unknown")
		require.Equal(t, strconv.Itoa(1-i), w.Header().Get("X-RateLimit-Remaining"), "guesses count against the address")
	}
	require.Empty(t, client)
	require.Equal(t, http.StatusTooManyRequests, post("/things").Code)

	w := post("/things", keyHeader, "a-key")
	require.Equal(t, http.StatusOK, w.Code, "a known key is a client of its own")
	require.Equal(t, "key:alice", client)
	require.Equal(t, "1", w.Header().Get("X-RateLimit-Remaining"))
	require.Equal(t, "0", post("/things", keyHeader, "a-new-key").Header().Get("X-RateLimit-Remaining"), "the same client's other key")
	require.Equal(t, http.StatusTooManyRequests, post("/things", keyHeader, "a-key").Code)

	w = post("/things", keyHeader, "b-key")
	require.Equal(t, `"things";q=1;w=60`, w.Header().Get("RateLimit-Policy"), "the key's own limit")
	require.Equal(t, http.StatusTooManyRequests, post("/things", keyHeader, "b-key").Code)

	require.Equal(t, http.StatusOK, post("/guarded").Code, "a route with its own access control")
	require.Equal(t, "192.0.2.1", client)
}

func TestWithoutAPIKeysRoutesAreOpen(t *testing.T) {
	t.Parallel()
	s := newSite(t, Config{}, things(Limit{2, time.Minute}))
	for range 2 {
		require.Equal(t, http.StatusOK, s.post("/things", `{"n":1}`, keyHeader, fmt.Sprint(rand.Int())).Code)
	}
	require.Equal(t, http.StatusTooManyRequests, s.post("/things", `{"n":1}`, keyHeader, "another").Code, "the address is the client")
}

func TestEntriesThatAreNoAPIKeys(t *testing.T) {
	t.Parallel()
	alice, bob := keyed("alice", "a-key", ":1/1m"), keyed("bob", "b-key", "")
	for bad, why := range map[string]string{
		keyed("alice", "a-key", ":hunter2"):                                  "API_KEYS: entry 2 has a limit that is not like 5/1m",
		keyed("alice", "a-key", ":0/1m"):                                     "API_KEYS: entry 2 has a limit that is not like 5/1m",
		alice + "," + keyed("alice", "other", ":2/1m"):                       "API_KEYS: entry 3 has a different limit for its name",
		alice + "," + keyed("alice", "other", ""):                            "API_KEYS: entry 3 has a different limit for its name",
		keyed("alice", "a-key", "") + "," + keyed("alice", "other", ":2/1m"): "API_KEYS: entry 3 has a different limit for its name",
		alice + "," + keyed("alice", "other", ":hunter2"):                    "API_KEYS: entry 3 has a limit that is not like 5/1m",
		keyed("alice", "a-key", ":"):                                         "API_KEYS: entry 2 is not a name, a colon and a SHA-256 in hex",
	} {
		ring, err := Keys(bob + "," + bad).parse()
		require.EqualError(t, err, why)
		_, found := ring.known.Find("b-key")
		require.True(t, found, "the other entries are read")
		_, found = ring.known.Find("other")
		require.False(t, found)
	}
}
