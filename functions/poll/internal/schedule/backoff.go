package schedule

import (
	"context"
	"maps"
	"time"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
)

// outageAfter is how many calls in a row must fail before a pass reports an outage. One that ends earlier reports it at its end, if no
// call of its tick was answered.
const outageAfter = fetch.Slots / 2

// Outage is a provider that does not answer.
type Outage struct {
	Code       jobs.Outcome
	RetryAfter time.Duration // how long the provider says to wait; 0: it does not say
}

// health is what the passes of a tick have seen of a provider, one after the other.
type health struct {
	failing  int    // calls in a row
	last     Outage // the last of them, with the longest wait of all
	answered bool   // any call
	reported bool   // the outage
}

// access is what a pass may do with a provider that is backed off.
type access struct {
	code  jobs.Outcome
	probe bool // make one call
}

// chain returns the providers that jobs of a provider need: one of them, for auto.
func (t *Ticker) chain(provider string) []string {
	if provider == jobs.Auto {
		return t.Fetcher.Chain
	}
	return []string{provider}
}

// probes returns the access to those providers of the chain that are backed off, and takes the probes that are due. Of all passes in all
// replicas one gets a probe. granted: this one got any.
func (t *Ticker) probes(ctx context.Context, provider string, off map[string]jobs.Backoff) (all map[string]*access, granted bool, err error) {
	all = map[string]*access{}
	for _, name := range t.chain(provider) {
		b, ok := off[name]
		if !ok {
			continue
		}
		a := &access{code: b.Code}
		if b.Due {
			if a.probe, err = t.Store.Probe(ctx, name); err != nil {
				return nil, false, err
			}
		}
		all[name], granted = a, granted || a.probe
	}
	return all, granted, nil
}

// beginAllowed begins a pass as far as the provider is not backed off; nil: there is nothing to do now. While it is, a pass is a probe: one
// job, and one call. seen is what passes of this tick have seen of providers.
func (t *Ticker) beginAllowed(ctx context.Context, provider string, until time.Time, seen map[string]*health) (*pass, error) {
	off, err := t.Store.Backoffs(ctx)
	if err != nil {
		return nil, err
	}
	b := jobs.BackoffOf(provider, t.Fetcher.Chain, off)
	if b == nil {
		p, err := t.begin(ctx, provider, until, false, seen)
		if err == nil && p != nil {
			p.access, _, err = t.probes(ctx, provider, off) // of auto
		}
		return p, err
	}
	if !b.Due {
		return nil, nil //nolint:nilnil // documented
	}
	all, granted, err := t.probes(ctx, provider, off)
	if err != nil || !granted {
		return nil, err
	}
	p, err := t.begin(ctx, provider, until, true, seen)
	if p != nil {
		p.access = all
	}
	return p, err
}

// refused reports that a provider is backed off, with the code of its problem. With use, the caller is about to call the provider, and uses
// up the probe if the pass has one.
func (p *pass) refused(provider string, use bool) (jobs.Outcome, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.access[provider]
	if a == nil {
		return "", false
	}
	if a.probe {
		a.probe = !use
		return "", false
	}
	return a.code, true
}

// note notes the result of a call to a provider, and adds to the batch what it means. p.mu must be held.
func (p *pass) note(b *Batch, provider string, r fetch.Result) {
	h := p.health[provider]
	if h == nil {
		h = &health{}
		p.health[provider] = h
	}
	switch {
	case r.Answered():
		*h = health{answered: true}
		delete(p.access, provider)
		b.Answered, b.Outage = true, nil
	case r.Outage:
		h.failing++
		h.last = Outage{r.Outcome, max(h.last.RetryAfter, r.RetryAfter)}
		if a := p.access[provider]; a != nil || h.failing >= outageAfter {
			h.reported = true
			last := h.last
			b.Answered, b.Outage = false, &last
		}
	}
}

// reportOutages reports the providers that have answered no call of this tick.
func (p *pass) reportOutages(ctx context.Context) error {
	for provider, h := range p.health {
		if h.failing == 0 || h.answered || h.reported {
			continue
		}
		if err := p.keep(ctx, Batch{Provider: provider, Outage: &h.last}); err != nil {
			return err
		}
	}
	return nil
}

// log logs what a write has changed.
func (p *pass) log(ctx context.Context, provider string, w Written) {
	if b := w.Began; b != nil {
		p.Log.WarnContext(ctx, "provider backed off", "provider", provider, "code", b.Code, "until", b.Until.UTC())
	}
	if w.Ended {
		p.Log.InfoContext(ctx, "provider answers again", "provider", provider, "backed_off_s", int(w.BackedOff.Seconds()))
	}
	p.logPaused(ctx, w.Paused)
}

func (t *Ticker) logPaused(ctx context.Context, paused []PausedJob) {
	for _, j := range paused {
		t.Log.WarnContext(ctx, "job paused: every symbol failed for a day", "job", j.ID, "code", j.Code)
	}
}

// pauseWaiting pauses jobs that have been waiting for backed-off providers for too long, and reports what is backed off and paused.
func (t *Ticker) pauseWaiting(ctx context.Context) error {
	off, err := t.Store.Backoffs(ctx)
	if err != nil {
		return err
	}
	if len(off) > 0 {
		waited := maps.Clone(off)
		if b := jobs.BackoffOf(jobs.Auto, t.Fetcher.Chain, off); b != nil {
			waited[jobs.Auto] = *b
		}
		paused, err := t.Store.PauseWaiting(ctx, waited)
		if err != nil {
			return err
		}
		t.logPaused(ctx, paused)
	}
	if t.Troubles != nil {
		n, err := t.Store.Paused(ctx)
		if err != nil {
			return err
		}
		t.Troubles(off, n)
	}
	return nil
}
