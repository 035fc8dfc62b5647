package fetch

import (
	"context"
	"sync"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
)

// Share returns the result of a series: that of an earlier fetch if it serves the request, else that of fetch. It calls fetch at most
// once. A provider's series is shared by the jobs of auto and by those that name the provider.
type Share func(provider string, fetch func() Result) Result

// StartAuto waits for a slot of auto, then tries the chain in a goroutine of wg. It calls done once, as [Fetcher.Start] does.
func (f *Fetcher) StartAuto(ctx context.Context, wg *sync.WaitGroup, r Request, share Share, done func(Result)) {
	l := f.lane(jobs.Auto)
	if !l.enter(ctx) {
		done(f.Fail(ctx, jobs.Auto, r.Symbol, jobs.OutOfTime, nil))
		return
	}
	wg.Go(func() {
		defer l.leave()
		done(f.tryChain(ctx, r, share))
	})
}

// tryChain tries the chain in order, as get-latest does. It returns the first quote, else the most useful failure. While there is
// another provider to ask, it waits neither for a budget nor for a provider that hangs.
func (f *Fetcher) tryChain(ctx context.Context, r Request, share Share) Result {
	var best Result
	asked := false
	for i, provider := range f.Chain {
		l, last := f.lane(provider), i == len(f.Chain)-1
		var one Result
		if !last && l.hangs() {
			one = f.Fail(ctx, provider, r.Symbol, fault.CodeProviderTimeout, nil)
		} else {
			one = share(provider, func() Result { return f.try(ctx, l, r, last) })
		}
		if one.Outcome == jobs.OK {
			return one
		}
		asked = asked || one.Asked
		if i == 0 || usefulness(one.Outcome) > usefulness(best.Outcome) {
			best = one
		}
		if usefulness(one.Outcome) == beyondProviders {
			break
		}
	}
	best.Asked = asked
	best.Outage, best.RetryAfter = false, 0 // of a provider, not of auto
	return best
}

// try fetches a request within the provider's budget, but takes no slot of the provider: it has one of auto.
func (f *Fetcher) try(ctx context.Context, l *lane, r Request, patient bool) Result {
	if outcome, err := f.reserve(ctx, l, patient); outcome != jobs.OK {
		return f.Fail(ctx, l.provider, r.Symbol, outcome, err)
	}
	return f.call(ctx, l, r)
}

// beyondProviders is the usefulness of a failure that no other provider can help with.
const beyondProviders = 4

// usefulness orders failures as get-latest does, by what the client can do: try again, else correct the symbol, else tell us.
func usefulness(failure jobs.Outcome) int {
	switch failure {
	case fault.CodeStorageUnavailable, jobs.OutOfTime:
		return beyondProviders
	case fault.CodeProviderRateLimited, fault.CodeProviderUnavailable, fault.CodeProviderTimeout:
		return 3 // "not found" of one provider must not speak for another that did not answer
	case fault.CodeSymbolNotFound:
		return 2
	case fault.CodeProviderMalformed:
		return 1
	default:
		return 0
	}
}
