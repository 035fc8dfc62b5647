package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Kill     Kind = "kill"     // SIGKILL; its supervisor starts it again
	Stop     Kind = "stop"     // SIGSTOP, and SIGCONT at the end
	Restart  Kind = "restart"  // SIGTERM to one replica of a function after the other, as a rollout does
	Slow     Kind = "slow"     // every chunk of a connection, or answer of a provider, is late
	Cut      Kind = "cut"      // connections are closed, and new ones, too
	Hang     Kind = "hang"     // half-open: connections are accepted, and nothing passes
	Strand   Kind = "strand"   // half-open: nothing passes on open connections; new ones work
	Outage   Kind = "outage"   // a provider answers 5xx
	Rubbish  Kind = "rubbish"  // a provider answers what is no quote
	Errors   Kind = "errors"   // the broker refuses requests of one kind
	FailOver Kind = "failover" // Postgres dies, and its standby takes over
	FullDisk Kind = "fulldisk" // Postgres' disk has no room
)

// Fault is one fault of a schedule. Detail says more about some kinds.
type Fault struct {
	At     time.Duration // since the beginning of the schedule
	For    time.Duration // 0: it is over at once
	Kind   Kind
	Target string
	Detail string
}

func (f Fault) String() string {
	text := fmt.Sprintf("%5.1f s  %s %s", f.At.Seconds(), f.Kind, f.Target)
	if f.Detail != "" {
		text += " (" + f.Detail + ")"
	}
	if f.For > 0 {
		text += fmt.Sprintf(" for %.1f s", f.For.Seconds())
	}
	return text
}

// functions are the functions of the system, each with so many replicas.
var functions = []string{"compute-ma", "dlq-inspector", "get-latest", "poll"}

const replicas = 2

// Replica returns the name of a replica of a function; the first is 1.
func replicaName(function string, n int) string { return fmt.Sprintf("%s/%d", function, n) }

// option is a kind of fault with what it can hit.
type option struct {
	kind    Kind
	targets []string
	details []string
	longest time.Duration
	once    bool // at most once in a schedule
}

// rubbish lists faults of the exchange, of those that no client may take for a quote.
var rubbish = []string{"html", "truncated", "bad_price", "oversized", "unknown_symbol", "limit_minute", "bad_key"}

func options() []option {
	replicasOf := func(all []string) (out []string) {
		for _, f := range all {
			for n := range replicas {
				out = append(out, replicaName(f, n+1))
			}
		}
		return out
	}
	programs := append(replicasOf(functions), "postgres", "redis", "broker", "sources", "gateway")
	links, providers := []string{"postgres", "redis", "exchange"}, []string{"yfinance", "binance", "coinbase", "finnhub", "twelve_data"}
	return []option{
		{kind: Kill, targets: programs},
		{kind: Kill, targets: programs}, // twice as often as others
		{kind: Stop, targets: programs, longest: 25 * time.Second},
		{kind: Restart, targets: functions},
		{kind: Slow, targets: links, longest: 12 * time.Second},
		{kind: Cut, targets: links, longest: 8 * time.Second},
		{kind: Hang, targets: links, longest: 15 * time.Second},
		{kind: Strand, targets: []string{"postgres", "redis"}, longest: 20 * time.Second},
		{kind: Outage, targets: providers, longest: 15 * time.Second},
		{kind: Rubbish, targets: providers, details: rubbish, longest: 10 * time.Second},
		{kind: Errors, targets: []string{"broker"}, details: brokerErrorNames(), longest: 10 * time.Second},
		{kind: FailOver, targets: []string{"postgres"}, once: true},
		{kind: FullDisk, targets: []string{"postgres"}, longest: 10 * time.Second, once: true},
	}
}

const (
	firstFault = 3 * time.Second
	lastMargin = 3 * time.Second // before the end, when all faults are over
)

// Plan returns the schedule of a seed: faults in the order in which they begin. It depends on nothing else. Faults overlap, but no two
// have the same target at the same time.
func Plan(seed uint64, d time.Duration) []Fault {
	r := rand.New(rand.NewPCG(seed, 0))
	all := options()
	used, busy := map[Kind]bool{}, map[string]time.Duration{}
	var plan []Fault
	for at := firstFault; at < d-lastMargin; at += 500*time.Millisecond + randN(r, 4500*time.Millisecond) {
		o := all[r.IntN(len(all))]
		f := Fault{At: at.Round(100 * time.Millisecond), Kind: o.kind, Target: o.targets[r.IntN(len(o.targets))]}
		if len(o.details) > 0 {
			f.Detail = o.details[r.IntN(len(o.details))]
		}
		if o.longest > 0 {
			f.For = (500*time.Millisecond + randN(r, o.longest)).Round(100 * time.Millisecond)
			f.For = min(f.For, (d - lastMargin - f.At).Round(100*time.Millisecond))
		}
		if o.once && used[o.kind] || busy[part(f.Target)] > f.At {
			continue
		}
		used[o.kind], busy[part(f.Target)] = true, f.At+f.For+settle[f.Kind]
		plan = append(plan, f)
	}
	return plan
}

// settle is how long a fault without a duration of its own keeps its target to itself.
var settle = map[Kind]time.Duration{Kill: time.Second, Restart: 8 * time.Second, FailOver: 15 * time.Second, FullDisk: 5 * time.Second}

// part is what a target belongs to: a rolling restart and a kill of a replica are faults of one function.
func part(target string) string {
	name, _, _ := strings.Cut(target, "/")
	return name
}

func randN(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// has reports whether a schedule has a fault of a kind.
func has(plan []Fault, kind Kind) bool {
	return slices.ContainsFunc(plan, func(f Fault) bool { return f.Kind == kind })
}
