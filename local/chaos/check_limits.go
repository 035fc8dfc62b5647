package chaos

import (
	"slices"
	"strings"
	"time"
)

// admission is a request that a limit let pass, at some time between two.
type admission struct {
	earliest, latest time.Time
	alone            bool // by a replica that decided without Redis, and said so
}

// limit is a limit of a minute. Each replica of its functions has a share of it while it decides without Redis.
type limit struct {
	what      string
	most      int
	share     int
	functions []string
	says      bool // whether requests that a replica admits alone are marked
}

// limits: no window of a minute has more requests of a client, or calls to a provider, than the limit, beyond the rule: a loss of Redis'
// memory admits the limit once more, and an outage of Redis a share for each replica, again after each start of one.
func (c *checker) limits() error {
	c.mu.Lock()
	clients := map[string][]admission{}
	for _, q := range c.quotes {
		clients[q.client] = append(clients[q.client], admission{q.sent, q.received, q.alone})
	}
	c.mu.Unlock()
	for client, all := range clients {
		if err := c.within(limit{"requests of " + client, clientLimit, max(clientLimit/maxCopies, 1), []string{"get-latest"}, true}, all); err != nil {
			return err
		}
	}
	c.market.mu.Lock()
	calls := map[string][]admission{}
	for _, call := range c.market.calls {
		// A replica that was stopped after it asked for leave makes the call when it goes on.
		earliest := call.at.Add(-callTime)
		for _, f := range c.faults {
			if name := part(f.Target); f.Kind == Stop && (name == "get-latest" || name == "poll") && f.from.Before(call.at) && f.to.Add(callTime).After(call.at) {
				earliest = minTime(earliest, f.from)
			}
		}
		calls[call.provider] = append(calls[call.provider], admission{earliest: earliest, latest: call.at})
	}
	c.market.mu.Unlock()
	for provider, most := range map[string]int{"finnhub": finnhubBudget, "twelve_data": twelveBudget} {
		if err := c.within(limit{"calls to " + provider, most, most / (2 * maxCopies), []string{"get-latest", "poll"}, false}, calls[provider]); err != nil {
			return err
		}
	}
	return nil
}

// callTime is how long after leave a call may arrive on a busy machine.
const callTime = 3 * time.Second

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

const window = time.Minute

// within checks one limit. Requests count only if all of them were certainly admitted within a window.
func (c *checker) within(l limit, all []admission) error {
	slices.SortFunc(all, func(a, b admission) int { return a.latest.Compare(b.latest) })
	for i := range all {
		first, shared, alone := all[i].earliest, 0, 0
		for _, a := range all[i:] {
			first = minTime(first, a.earliest)
			if a.latest.Sub(first) >= window {
				break
			}
			if a.alone {
				alone++
			} else {
				shared++
			}
			most, shares := c.most(l, first, a.latest)
			if !l.says && c.outage(first, a.latest) {
				most += shares
			}
			if shared > most || alone > shares {
				return differs("%d %s from %s to %s, and %d by replicas alone: the rule admits %d and %d", shared, l.what,
					first.Format(time.StampMilli), a.latest.Format(time.StampMilli), alone, most, shares)
			}
		}
	}
	return nil
}

// afterOutage is how long after its end functions may take to notice.
const afterOutage = 5 * time.Second

// most returns the most that Redis admits in a span of time, and the most that replicas admit alone.
func (c *checker) most(l limit, from, to time.Time) (shared, alone int) {
	shared = l.most
	for _, f := range c.faults {
		if f.Target == "redis" && f.Kind == Kill && f.from.Before(to) && f.to.Add(afterOutage).After(from) {
			shared += l.most
		}
	}
	for _, function := range l.functions {
		alone += l.share * replicas
		for name, times := range c.starts {
			for _, at := range times {
				if strings.HasPrefix(name, function+"/") && at.After(from.Add(-window)) && at.Before(to) {
					alone += l.share
				}
			}
		}
	}
	return shared, alone
}

// outage reports whether replicas may have decided alone in a span of time: Redis failed, or a replica that waited for a processor for too
// long took it for silent, which its answers say.
func (c *checker) outage(from, to time.Time) bool {
	from = from.Add(-window - afterOutage)
	return slices.ContainsFunc(c.faults, func(f injected) bool { return f.Target == "redis" && f.from.Before(to) && f.to.After(from) }) ||
		slices.ContainsFunc(c.quotes, func(q quote) bool { return q.alone && q.sent.Before(to) && q.received.After(from) })
}
