package chaos

import (
	"slices"
	"strings"
	"time"
)

// admission is a request that a limit let pass, at some time between two.
type admission struct{ earliest, latest time.Time }

// limits: no window of a minute has more requests of a client, or calls to a provider, than the limit, beyond the rule: a loss of Redis'
// memory admits the limit once more, and an outage of Redis a share for each replica, again after each start of one.
func (c *checker) limits() error {
	c.mu.Lock()
	clients := map[string][]admission{}
	for _, q := range c.quotes {
		clients[q.client] = append(clients[q.client], admission{q.sent, q.received})
	}
	c.mu.Unlock()
	for client, all := range clients {
		if err := c.within("requests of "+client, all, clientLimit, max(clientLimit/maxCopies, 1), []string{"get-latest"}); err != nil {
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
		calls[call.provider] = append(calls[call.provider], admission{earliest, call.at})
	}
	c.market.mu.Unlock()
	for provider, limit := range map[string]int{"finnhub": finnhubBudget, "twelve_data": twelveBudget} {
		if err := c.within("calls to "+provider, calls[provider], limit, limit/(2*maxCopies), []string{"get-latest", "poll"}); err != nil {
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
func (c *checker) within(what string, all []admission, limit, share int, functions []string) error {
	slices.SortFunc(all, func(a, b admission) int { return a.latest.Compare(b.latest) })
	for i := range all {
		first, n := all[i].earliest, 0
		for _, a := range all[i:] {
			first = minTime(first, a.earliest)
			if a.latest.Sub(first) >= window {
				break
			}
			n++
			if most := c.most(first, a.latest, limit, share, functions); n > most {
				return differs("%d %s from %s to %s: the limit is %d, and with the outages of redis %d", n, what,
					first.Format(time.StampMilli), a.latest.Format(time.StampMilli), limit, most)
			}
		}
	}
	return nil
}

// most returns the most that the rule admits in a span of time.
func (c *checker) most(from, to time.Time, limit, share int, functions []string) int {
	most, outage := limit, false
	for _, f := range c.faults {
		if f.Target != "redis" || f.from.After(to) {
			continue
		}
		if f.Kind == Kill && f.to.Add(afterOutage).After(from) {
			most += limit
		}
		outage = outage || f.to.Add(window+afterOutage).After(from)
	}
	if outage {
		for _, function := range functions {
			most += share * replicas
			for name, times := range c.starts {
				if !strings.HasPrefix(name, function+"/") {
					continue
				}
				for _, at := range times {
					if at.After(from.Add(-window)) && at.Before(to) {
						most += share
					}
				}
			}
		}
	}
	return most
}

// afterOutage is how long after its end functions may take to notice.
const afterOutage = 5 * time.Second
