package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
)

// codeOutOfTime is the result of a symbol that the tick had no time for. It comes first at the next tick.
const codeOutOfTime = "out_of_time"

// dispatch starts a fetch of each want in turn, as slots and budget allow, and returns once the last has begun.
func (p *pass) dispatch(ctx, calls context.Context, wants []*want, wg *sync.WaitGroup) {
	l := p.lane(p.provider)
	for _, w := range wants {
		if !l.enter(calls) {
			p.results <- finished{w, p.failed(ctx, p.provider, w.symbol, codeOutOfTime, nil)}
			continue
		}
		if p.provider != auto {
			if code, err := p.reserve(calls, l, true); code != "" {
				l.leave()
				p.results <- finished{w, p.failed(ctx, p.provider, w.symbol, code, err)}
				continue
			}
		}
		wg.Go(func() {
			defer l.leave()
			if p.provider == auto {
				p.results <- finished{w, p.fetchAuto(ctx, calls, w)}
			} else {
				p.results <- finished{w, p.fetch(calls, l, w)}
			}
		})
	}
}

// fetch makes the call that was reserved. It is the caller's business to write down what came of it.
func (p *pass) fetch(calls context.Context, l *lane, w *want) result {
	got, err := p.ingestOne(calls, l.provider, w)
	l.note(fault.CodeOf(err))
	if err != nil {
		r := p.failed(calls, l.provider, w.symbol, fault.CodeOf(err), err)
		if r.attempted = r.code() != codeLimited; !r.attempted {
			l.close(err) // the provider's own count wins over ours
		}
		return r
	}
	p.metrics.fetches(l.provider, "ok").Inc()
	return result{Symbol: w.symbol, Price: &got.Quote.Price, ObservedAt: &got.Quote.ObservedAt, Provider: &l.provider, attempted: true}
}

// ingestOne brings one quote into the pipeline and the cache. A panic on the way, of an adapter say, is an error of this
// symbol. Its value stays out of the log, which must not show what an adapter had in its hands, such as a key.
func (p *pass) ingestOne(calls context.Context, provider string, w *want) (got ingest.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			what := fmt.Sprintf("%T", v)
			if defect, ok := v.(runtime.Error); ok {
				what = defect.Error()
			}
			err = fmt.Errorf("panic: %s\n%s", what, debug.Stack())
		}
	}()
	if got, err = p.ingest.FetchReserved(calls, w.planned, provider, w.symbol); err != nil {
		return got, err
	}
	// The quote is stored: that the tick's time is up must not keep it from get-latest.
	if _, err := p.cache.Put(context.WithoutCancel(calls), got.Quote, got.RawResponseID); err != nil {
		p.log.WarnContext(calls, "cache not written", "err", err)
	}
	return got, nil
}

func (p *pass) failed(ctx context.Context, provider string, symbol market.Symbol, code string, err error) result {
	p.metrics.fetches(provider, code).Inc()
	if err != nil {
		p.log.WarnContext(ctx, "fetch failed", "provider", provider, "symbol", symbol, "code", code, "err", err)
	}
	return result{Symbol: symbol, Code: &code}
}

// fetchAuto tries the chain in order, as get-latest does, and gives the first quote, else the most useful failure. A provider's
// series is shared with the jobs that name the provider. While there is another provider to ask, it waits for no budget, and for
// none that hangs.
func (p *pass) fetchAuto(ctx, calls context.Context, w *want) result {
	var best result
	for i, provider := range p.chain {
		l, last := p.lane(provider), i == len(p.chain)-1
		var r result
		if !last && l.hangs() {
			r = p.failed(ctx, provider, w.symbol, "provider_timeout", nil)
		} else {
			r = p.fetchShared(ctx, calls, l, w, last)
		}
		if r.Code == nil {
			return r
		}
		r.attempted = r.attempted || best.attempted
		if i == 0 || usefulness(r.code()) > usefulness(best.code()) {
			best = r
		}
		best.attempted = r.attempted
		if code := r.code(); code == "storage_unavailable" || code == codeOutOfTime {
			break // no other provider can help
		}
	}
	return best
}

// usefulness orders failures as get-latest does: try again, else correct the symbol, else tell us.
func usefulness(code string) int {
	switch code {
	case "storage_unavailable", codeOutOfTime:
		return 4
	case codeLimited, "provider_unavailable", "provider_timeout":
		return 3
	case "symbol_not_found":
		return 2
	case "provider_malformed":
		return 1
	}
	return 0
}

// fetchShared gives the result of one series of a provider: that of a fetch that serves w's period, or of one of its own.
func (p *pass) fetchShared(ctx, calls context.Context, l *lane, w *want, patient bool) result {
	one := *w
	for {
		got, err := p.store.acquire(ctx, p.token, l.provider, []*want{&one})
		switch {
		case err != nil:
			return p.failed(ctx, l.provider, w.symbol, fault.CodeOf(err), err)
		case len(got.served) == 1:
			return got.served[0].got
		case len(got.owned) == 1:
			return p.fetchOwned(ctx, calls, l, &one, patient)
		}
		if !pause(calls, busyWait) {
			return p.failed(ctx, l.provider, w.symbol, codeOutOfTime, nil)
		}
	}
}

func (p *pass) fetchOwned(ctx, calls context.Context, l *lane, w *want, patient bool) result {
	o := outcome{provider: l.provider}
	if code, err := p.reserve(calls, l, patient); code != "" {
		w.got = p.failed(ctx, l.provider, w.symbol, code, err)
	} else {
		w.got = p.fetch(calls, l, w)
	}
	if o.unasked = []*want{w}; w.got.attempted {
		o.fetched, o.unasked = o.unasked, nil
	}
	if _, err := p.store.write(ctx, p.token, o); err != nil { // others fetch it, too, once the lease is over
		p.log.WarnContext(ctx, "result of a series not written", "provider", l.provider, "symbol", w.symbol, "err", err)
	}
	return w.got
}

// reserve takes a call from the provider's budget. It waits for one, if patient, when one comes before calls ends: a plan of
// one call a second still serves a whole job. Otherwise it gives the code of what is in the way, and its cause where that was
// not known before.
func (p *pass) reserve(calls context.Context, l *lane, patient bool) (code string, err error) {
	for {
		if isOver(calls) {
			return codeOutOfTime, nil
		}
		if code := l.closedBy(); code != "" {
			return code, nil
		}
		err := p.ingest.Reserve(calls, l.provider)
		if err == nil {
			return "", nil
		}
		wait := waitOf(err)
		end, bounded := calls.Deadline()
		if !patient || fault.CodeOf(err) != codeLimited || bounded && !time.Now().Add(wait).Before(end) {
			l.close(err)
			return fault.CodeOf(err), err
		}
		pause(calls, wait)
	}
}
