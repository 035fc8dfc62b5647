package ratelimit

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the networks whose X-Forwarded-For entries are trusted.
type proxies []netip.Prefix

// parseProxies reads [Config].TrustedProxies. An error does not prevent the other entries from being read.
func parseProxies(text string) (known proxies, err error) {
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		n, err := parseNetwork(part)
		if err != nil {
			errs = append(errs, fmt.Errorf("TRUSTED_PROXIES: %q is not an address or a CIDR", part))
			continue
		}
		known = append(known, n)
	}
	return known, errors.Join(errs...)
}

// parseNetwork reads an address or a CIDR. IPv4 in IPv6 notation becomes IPv4, as in the addresses that it is compared with.
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

func (p proxies) trust(a netip.Addr) bool {
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// address returns the address of a request's client: the first address that is not trusted, from the connection's peer leftwards
// through X-Forwarded-For, or the left-most if all are trusted. An invalid entry ends the walk at the hop before. An IPv6 client is
// its /64. The header Forwarded is ignored: Knative's queue-proxy builds it from what the client sent.
func (p proxies) address(r *http.Request) string {
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
		return netip.PrefixFrom(current, 64).Masked().String() // without a zone
	}
	return current.String()
}

// parseHop reads an address with or without a port; IPv6 with or without brackets.
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
