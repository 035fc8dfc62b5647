package chaos

import (
	"context"
	"fmt"
	"time"
)

// checker compares the tables and the topics with the book. It shares no code with the functions: it has its own SQL (facts.go), decoding
// and arithmetic.
type checker struct {
	*book
	market    *market
	faults    []injected
	starts    map[string][]time.Time // of replicas, after their first
	follows   []followed
	faultsEnd time.Time
	healed    error // the last difference that went away

	facts
}

// differs is an error that says what differs.
func differs(format string, args ...any) error { return fmt.Errorf(format, args...) }

// patience is how long the system may take after the last fault until nothing differs: longer than all waits after failures that a
// schedule can lead to.
const patience = 4 * time.Minute

// settled reads the facts and checks again and again until nothing differs. It returns the first difference of the last check if time is
// up, and at once if it is one that no time can heal. between is called between two checks.
func (c *checker) settled(ctx context.Context, s *system, between func(context.Context)) error {
	deadline := time.Now().Add(patience)
	for {
		if err := c.ofClients(); err != nil {
			return err
		}
		err := c.read(ctx, s)
		if err == nil {
			err = c.ofFacts()
		}
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		c.healed = err
		between(ctx)
		pause(ctx, 2*time.Second)
	}
}

// ofClients returns the first difference that is in the book alone.
func (c *checker) ofClients() error { return first(c.answers, c.limits) }

// ofFacts returns the first difference between the facts and the book, or between facts.
func (c *checker) ofFacts() error {
	return first(c.acknowledged, c.published, c.stored, c.averaged, c.streams, c.poison, c.accepted, c.jobsRan, c.seriesComplete, c.atRest)
}

func first(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
