package ratelimit

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/service"
)

// Policy is one named limit on a route. Routes with the same name share it.
type Policy struct {
	Name  string // as in the header RateLimit-Policy: letters, digits and other characters that need no escape there
	Limit Limit
	// FailClosed routes answer 503 while Redis is unavailable, instead of deciding alone: for routes that create paid work.
	FailClosed bool
	// Guarded routes have an access control of their own and need no API key.
	Guarded bool
}

// Gate limits a route. Every admitted request counts once, whatever its response; refused requests do not count. Every response
// has the limit's headers (draft-ietf-httpapi-ratelimit-headers-11, and the X-RateLimit names that most clients read). A refusal
// is 429 with Retry-After, the time until a request can pass, in whole seconds. If API keys are configured, a request without a
// known one is 401 and counts against its address. Safe for concurrent use.
type Gate struct {
	limiter *Limiter
	policy  Policy
}

// Gate returns the gate of a policy.
func (l *Limiter) Gate(p Policy) *Gate {
	l.refusals(p.Name) // exposes 0: an alert on an increase needs a value before it
	return &Gate{l, p}
}

// Middleware returns a middleware that puts a gate before a route. The gate decides before the request is validated.
func (l *Limiter) Middleware(p Policy) service.Middleware {
	g := l.Gate(p)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if client, ok := g.Admit(w, r, nil); ok {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, client)))
			}
		})
	}
}

// Admit decides a request. If it returns false, it has written the response. client is the client that was charged, see [Client].
//
// ride queues commands of the route on the pipeline that carries the check, so that both take one round trip; it may be nil. The
// commands run before the request is admitted, so they must only read. When Admit returns, each of them has its reply, or an
// error if Redis sent none. ride may be called more than once; the commands of the last call count.
func (g *Gate) Admit(w http.ResponseWriter, r *http.Request, ride func(redis.Pipeliner)) (client string, ok bool) {
	l, p := g.limiter, g.policy
	key, known := l.keys.find(r.Header)
	client, limit := "key:"+key.name, key.own // no address begins with "key:"
	if !known {
		client = l.proxies.address(r)
	}
	if limit == (Limit{}) {
		limit = p.Limit
	}
	d, err := l.decide(r.Context(), ride, p, p.Name+":"+client, limit)
	setHeaders(w.Header(), p.Name, limit, d)
	switch {
	case err != nil:
	case !d.Allowed:
		l.refusals(p.Name).Inc()
		kept := limit.kept() // the limit that was enforced
		err = fault.New(fault.Limited, fault.CodeRateLimited, "the limit of %d requests in %s is used up", kept.N, kept.WindowText()).After(d.Reset)
	case !known && !p.Guarded && l.config.APIKeys.Required():
		w.Header().Set("WWW-Authenticate", `ApiKey realm="marketdata", header="`+keyHeader+`"`)
		err = fault.New(fault.Invalid, fault.CodeUnauthorized, "send a known API key as the header %s", keyHeader)
	}
	if err != nil {
		problem.Write(w, r, err)
	}
	return client, err == nil
}

// decide returns the decision, with an error if it needs Redis and Redis did not decide.
func (l *Limiter) decide(ctx context.Context, ride func(redis.Pipeliner), p Policy, key string, limit Limit) (Decision, error) {
	d, err := l.ask(ctx, ride, key, []Limit{limit})
	switch {
	case err == nil:
		return d, nil
	case p.FailClosed || errors.Is(err, errBusy):
		again := time.Second
		return Decision{Left: []int{0}, Reset: again, Degraded: true},
			fault.Wrap(err, fault.Unavailable, fault.CodeLimiterUnavailable, "the limit cannot be checked at the moment").After(again)
	}
	return l.alone(key, []Limit{l.clientShare(limit)}), nil
}

type clientKey struct{}

// Client returns the client that the limiter charged for this request: "key:" and the name of the API key, or else the address.
// It is empty on a route without a limit.
func Client(ctx context.Context) string {
	client, _ := ctx.Value(clientKey{}).(string)
	return client
}

// setHeaders sets the headers by their canonical names, which saves a conversion per request.
func setHeaders(h http.Header, name string, limit Limit, d Decision) {
	window := int((limit.Window + time.Second - 1) / time.Second)
	quota, left, reset := strconv.Itoa(limit.N), strconv.Itoa(d.Left[0]), strconv.Itoa(d.Seconds())
	h["Ratelimit-Policy"] = []string{`"` + name + `";q=` + quota + `;w=` + strconv.Itoa(window)}
	h["Ratelimit"] = []string{`"` + name + `";r=` + left + `;t=` + reset}
	h["X-Ratelimit-Limit"] = []string{quota}
	h["X-Ratelimit-Remaining"] = []string{left}
	h["X-Ratelimit-Reset"] = []string{reset}
	if d.Degraded {
		h["Ratelimit-Mode"] = []string{"degraded"}
	}
}
