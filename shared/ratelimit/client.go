package ratelimit

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks whose X-Forwarded-For entries are believed. It decodes from comma-separated CIDRs or
// addresses.
type Proxies []netip.Prefix

// UnmarshalText reads comma-separated networks.
func (p *Proxies) UnmarshalText(text []byte) error {
	*p = nil
	for _, part := range strings.Split(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if a, err := netip.ParseAddr(part); err == nil {
			*p = append(*p, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		n, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is no network", part)
		}
		*p = append(*p, n.Masked())
	}
	return nil
}

func (p Proxies) trust(a netip.Addr) bool {
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// Client names the client of a request: from the connection's peer leftwards through X-Forwarded-For past trusted
// proxies to the first address that is not trusted; all trusted: the left-most. An untrusted peer is itself the client.
// An entry that is no address ends the walk at the hop before. IPv6 clients are their /64. Never the header Forwarded,
// which Knative's queue-proxy makes of what the client sent.
func Client(r *http.Request, trusted Proxies) string {
	current, ok := parseHop(r.RemoteAddr)
	if !ok {
		return "unknown"
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted.trust(current); i-- {
		next, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		current = next
	}
	if current.Is6() {
		if n, err := current.WithZone("").Prefix(64); err == nil {
			return n.String()
		}
	}
	return current.String()
}

// parseHop reads an address with or without a port, the IPv6 one with or without brackets.
func parseHop(s string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap(), err == nil
}
