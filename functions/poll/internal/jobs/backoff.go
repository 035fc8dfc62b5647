package jobs

import (
	"fmt"
	"slices"
	"time"

	"marketdata/shared/fault"
)

// Backoff is the state of a provider that does not answer. Its jobs wait.
type Backoff struct {
	Provider string
	Code     Outcome   // of the last failure
	Began    time.Time // when the first of the failures in a row was noted
	Failed   time.Time // when the last was
	Until    time.Time // then one call finds out whether the provider is back
	Due      bool      // Until has passed
}

// BackoffOf returns the back-off that a job of the provider waits for; nil: none. A job of auto waits only while every provider of the
// chain is backed off, and then for the one that is asked first.
func BackoffOf(provider string, chain []string, off map[string]Backoff) *Backoff {
	if provider != Auto {
		chain = []string{provider}
	}
	var all []Backoff
	for _, p := range chain {
		b, ok := off[p]
		if !ok {
			return nil
		}
		all = append(all, b)
	}
	if len(all) == 0 {
		return nil
	}
	b := slices.MinFunc(all, func(a, b Backoff) int { return a.Until.Compare(b.Until) })
	return &b
}

// Reason returns the code, and what it means for people.
func (b Backoff) Reason() string {
	what := "cannot be reached, or answers with errors"
	switch string(b.Code) {
	case fault.CodeProviderTimeout:
		what = "does not answer in time"
	case fault.CodeProviderRateLimited:
		what = "refuses calls: its limit is spent"
	}
	return fmt.Sprintf("%s: %s %s", b.Code, b.Provider, what)
}

// PauseAfter is how long every symbol of a job may fail before the job is paused.
const PauseAfter = 24 * time.Hour

// PauseReason returns the code of the problem that paused a job, and what to do about it.
func PauseReason(code Outcome) string {
	return fmt.Sprintf("%s: every symbol failed for %.0f hours; resume the job to try again", code, PauseAfter.Hours())
}
