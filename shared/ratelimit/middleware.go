package ratelimit

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"marketdata/shared/fault"
	"marketdata/shared/service"
)

// Policy is one named limit on a route.
type Policy struct {
	Name  string // as in the header RateLimit-Policy
	Limit Limit
	// FailClosed answers 503 instead of deciding alone: for routes that create paid work.
	FailClosed bool
}

// Config is the limiter's part of a function's environment.
type Config struct {
	Timeout        time.Duration `envconfig:"RATE_LIMIT_TIMEOUT" default:"50ms"` // for one answer of Redis
	MaxCopies      int           `envconfig:"MAX_COPIES" default:"4"`            // divides the limits while Redis is away
	TrustedProxies Proxies       `envconfig:"TRUSTED_PROXIES" default:"127.0.0.0/8,::1"`
	Default        Limit         `envconfig:"RATE_LIMIT_DEFAULT" default:"1200/1m"`
}

// Middleware limits the routes it is given to. Every request counts once, whatever its answer; refusals do not count.
// Headers (draft-ietf-httpapi-ratelimit-headers-11, and the X-RateLimit names that most clients read) are on every
// answer; a refusal is 429 with Retry-After, the whole second at which a call passes again.
func Middleware(store Store, trusted Proxies, policy Policy) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		d, err := store.Take(r.Context(), policy.Name+":"+Client(r, trusted), policy.Limit)
		if err != nil || (d.Degraded && policy.FailClosed) {
			service.WriteProblem(w, r, fault.New(fault.Unavailable, "limiter_unavailable", "the limit cannot be checked now").After(time.Second))
			return
		}
		setHeaders(w.Header(), policy, d)
		if !d.Allowed {
			service.WriteProblem(w, r, fault.New(fault.Limited, "rate_limited",
				"the limit of %d requests in %s is spent", policy.Limit.N, policy.Limit.Window).After(d.Reset))
			return
		}
		next(ctx)
	}
}

func setHeaders(h http.Header, p Policy, d Decision) {
	reset := strconv.Itoa(int(math.Ceil(d.Reset.Seconds())))
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", p.Name, p.Limit.N, int(math.Ceil(p.Limit.Window.Seconds()))))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%s", p.Name, d.Remaining, reset))
	h.Set("X-RateLimit-Limit", strconv.Itoa(p.Limit.N))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(d.Remaining))
	h.Set("X-RateLimit-Reset", reset)
	if d.Degraded {
		h.Set("RateLimit-Mode", "degraded")
	}
}
