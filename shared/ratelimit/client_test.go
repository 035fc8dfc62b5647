package ratelimit

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted, err := parseProxies("127.0.0.0/8, 10.0.0.0/8,::1, ::ffff:172.16.0.0/108,fd00::/8")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		peer string
		xff  []string
		want string
	}{
		"peer alone":                     {"203.0.113.9:4711", nil, "203.0.113.9"},
		"untrusted peer, header lies":    {"203.0.113.9:4711", []string{"1.1.1.1"}, "203.0.113.9"},
		"trusted peer, no header":        {"127.0.0.1:1", nil, "127.0.0.1"},
		"one proxy":                      {"127.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"spoofed left entries":           {"127.0.0.1:1", []string{"1.1.1.1, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
		"spoofed trusted left entries":   {"127.0.0.1:1", []string{"10.0.0.1, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
		"several header lines":           {"127.0.0.1:1", []string{"1.1.1.1", "203.0.113.9", "10.1.2.3"}, "203.0.113.9"},
		"no spaces":                      {"127.0.0.1:1", []string{"203.0.113.9,10.1.2.3"}, "203.0.113.9"},
		"port stripped":                  {"127.0.0.1:1", []string{"203.0.113.9:1234"}, "203.0.113.9"},
		"port of a proxy stripped":       {"127.0.0.1:1", []string{"203.0.113.9, 10.0.0.7:80"}, "203.0.113.9"},
		"invalid entry ends the walk":    {"127.0.0.1:1", []string{"203.0.113.9, banana, 10.0.0.7"}, "10.0.0.7"},
		"invalid next to the peer":       {"127.0.0.1:1", []string{"203.0.113.9, unknown"}, "127.0.0.1"},
		"invalid left of the client":     {"127.0.0.1:1", []string{"banana, 203.0.113.9"}, "203.0.113.9"},
		"empty entry ends the walk":      {"127.0.0.1:1", []string{"203.0.113.9,,10.0.0.7"}, "10.0.0.7"},
		"empty header":                   {"127.0.0.1:1", []string{""}, "127.0.0.1"},
		"all trusted: left-most":         {"127.0.0.1:1", []string{"10.0.0.1, 10.0.0.2"}, "10.0.0.1"},
		"ipv6 by /64":                    {"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::/64"},
		"ipv6 of the same /64":           {"[2001:db8:1:2:ffff::1]:1", nil, "2001:db8:1:2::/64"},
		"ipv6 through a proxy, port":     {"[::1]:1", []string{"[2001:db8:1:2::9]:55"}, "2001:db8:1:2::/64"},
		"ipv6 through a proxy, bare":     {"[::1]:1", []string{"2001:db8:1:2::9"}, "2001:db8:1:2::/64"},
		"ipv6 through a proxy, brackets": {"[::1]:1", []string{"[2001:db8:1:2::9]"}, "2001:db8:1:2::/64"},
		"ipv6 with a zone":               {"[fe80::1%eth0]:1", nil, "fe80::/64"},
		"ipv6 proxy":                     {"[fd00::7]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"mapped ipv4 is ipv4":            {"[::ffff:203.0.113.9]:1", nil, "203.0.113.9"},
		"mapped ipv4 proxy is trusted":   {"[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"mapped network is trusted":      {"172.20.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"peer is not an address":         {"@", []string{"203.0.113.9"}, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			r.Header.Set("Forwarded", "for=198.51.100.1")
			r.Header.Set("X-Real-IP", "198.51.100.2")
			for _, v := range c.xff {
				r.Header.Add("X-Forwarded-For", v)
			}
			require.Equal(t, c.want, trusted.address(r))
		})
	}
}

// A network of IPv6 that contains all of IPv4 trusts all of it.
func TestMappedNetworks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"::ffff:0:0/90": true, "::ffff:0:0/96": true, "::ffff:0:0/97": false, "::ffff:128.0.0.0/97": true} {
		known, err := parseProxies(text)
		require.NoError(t, err)
		require.Equal(t, want, known.trust(netip.MustParseAddr("203.0.113.9")), text)
	}
}

func TestNoTrustedProxies(t *testing.T) {
	t.Parallel()
	none, err := parseProxies("")
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	require.Equal(t, "127.0.0.1", none.address(r))
}
