package ratelimit

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks whose X-Forwarded-For entries are believed. It decodes from comma-separated CIDRs or
// addresses; empty: no proxy is believed.
type Proxies struct {
	networks []netip.Prefix
	err      error
}

// UnmarshalText never fails: faults wait for [Config.Validate].
func (p *Proxies) UnmarshalText(text []byte) error {
	*p = Proxies{}
	var errs []error
	for _, part := range strings.Split(string(text), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		n, err := parseNetwork(part)
		if err != nil {
			errs = append(errs, fmt.Errorf("TRUSTED_PROXIES: %q is no network", part))
			continue
		}
		p.networks = append(p.networks, n)
	}
	p.err = errors.Join(errs...)
	return nil
}

// parseNetwork reads an address or a CIDR. IPv4 in IPv6 notation is IPv4, as it is in the addresses compared with it.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if n.Addr().Is4In6() {
		return n.Addr().Unmap().Prefix(max(n.Bits()-96, 0))
	}
	return n.Masked(), nil
}

func (p *Proxies) trust(a netip.Addr) bool {
	for _, n := range p.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// address names the client of a request by its address: from the connection's peer leftwards through X-Forwarded-For
// past trusted proxies to the first that is not trusted; all trusted: the left-most. An untrusted peer is itself the
// client. An entry that is no address ends the walk at the hop before. IPv6 clients are their /64. Never the header
// Forwarded, which Knative's queue-proxy makes of what the client sent.
func (p *Proxies) address(r *http.Request) string {
	current, ok := parseHop(r.RemoteAddr)
	if !ok {
		return "unknown"
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trust(current); i-- {
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
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap(), err == nil
}
