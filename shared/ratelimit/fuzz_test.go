package ratelimit

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzAddress sends any X-Forwarded-For: a client is an address or a /64, and only one that a trusted proxy vouches for differs from the
// peer.
func FuzzAddress(f *testing.F) {
	f.Add("127.0.0.1:1", "1.1.1.1, 203.0.113.9, 10.1.2.3", "")
	f.Add("[::1]:1", "2001:db8::1, [fd00::1]:80", "banana")
	f.Add("203.0.113.9:1", "10.0.0.1", "::1")
	f.Add("[fe80::1%lo]:1", "::ffff:10.0.0.1", "fe80::1%eth0")
	f.Add("127.0.0.1:1", "[1.2.3.4, 1.2.3.4]:80:", ",,")
	trusted, err := parseProxies("127.0.0.0/8,::1,10.0.0.0/8,fd00::/8")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, peer, first, second string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{first, second}
		got := trusted.address(r)
		if got == "unknown" {
			_, ok := parseHop(peer)
			require.False(t, ok)
			return
		}
		a, err := netip.ParseAddr(got)
		if n, networkErr := netip.ParsePrefix(got); networkErr == nil {
			a, err = n.Addr(), nil
			require.Equal(t, 64, n.Bits())
			require.True(t, a.Is6() && n.Masked() == n)
		}
		require.NoError(t, err, got)
		require.Empty(t, a.Zone())
		require.False(t, a.Is4In6())
		own := httptest.NewRequest(http.MethodGet, "/", nil)
		own.RemoteAddr = peer
		if host, _, err := net.SplitHostPort(peer); err == nil {
			if address, err := netip.ParseAddr(host); err == nil && !trusted.trust(address.Unmap()) {
				require.Equal(t, trusted.address(own), got, "the peer is not a proxy of ours")
			}
		}
		if got != trusted.address(own) { // it is in the header
			require.True(t, strings.ContainsAny(first+second, ".:"))
		}
	})
}

// FuzzLimits reads the settings of limits, networks and keys. What is accepted is read again from its own text.
func FuzzLimits(f *testing.F) {
	for _, text := range []string{"5/1m", "25/1d", "1/366d", "5/1.5ms", "99999999999/1m", "10.0.0.0/8,::1", "::ffff:1.2.3.4/120", "fe80::1%eth0", "a:" + strings.Repeat("ab", 32) + ":5/1m"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := ParseLimit(text); err == nil {
			require.NoError(t, l.Check("X"))
			require.LessOrEqual(t, l.Window, 366*24*time.Hour)
			again, err := ParseLimit(l.String())
			require.NoError(t, err)
			require.Equal(t, l, again)
		}
		if n, err := parseNetwork(text); err == nil {
			require.True(t, n.IsValid())
			require.False(t, n.Addr().Is4In6())
			again, err := parseNetwork(n.String())
			require.NoError(t, err)
			require.Equal(t, n, again)
		}
		ring, err := Keys(text).parse()
		if err != nil && len(text) > 8 {
			require.NotContains(t, err.Error(), text, "an entry may be a secret")
		}
		_, _, known := ring.find(http.Header{keyHeader: {text}})
		require.False(t, known)
	})
}
