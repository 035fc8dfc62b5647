package kafkaclient

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// State follows whether the brokers can be used. It logs each reason once, in librdkafka's words, until the brokers answer again.
// Safe for concurrent use.
type State struct {
	log    *slog.Logger
	redact func(string) string

	mu      sync.Mutex
	reason  string                   // the last one that was logged; empty: the brokers can be used
	logged  map[kafka.ErrorCode]bool // since they could
	pending *time.Timer              // logs an error that says little, unless one that says more follows
}

// patience is how long an error that says little waits for one that says more. A broker that is away for less is not reported.
const patience = 500 * time.Millisecond

// NewState returns the state of a client with these settings, whose passwords and keys it never logs.
func NewState(c Config, log *slog.Logger) *State {
	return &State{log: log, redact: c.redact, logged: map[kafka.ErrorCode]bool{}}
}

// Failed notes an error of librdkafka.
func (s *State) Failed(err error) {
	var ke kafka.Error
	if !errors.As(err, &ke) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.logged[ke.Code()]:
	case !saysLittle(ke):
		s.report(ke)
	case s.reason == "" && s.pending == nil:
		s.pending = time.AfterFunc(patience, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.pending != nil {
				s.report(ke)
			}
		})
	}
}

// saysLittle reports an error that follows from another one, of a connection, which librdkafka reports sooner or later.
func saysLittle(err kafka.Error) bool {
	switch err.Code() {
	case kafka.ErrAllBrokersDown, kafka.ErrTimedOut, kafka.ErrTimedOutQueue, kafka.ErrMsgTimedOut, kafka.ErrPurgeQueue, kafka.ErrPurgeInflight:
		return true
	case kafka.ErrTransport: // its text may have the cause
		return !causes().MatchString(err.Error())
	default:
		return false
	}
}

// causes matches the errors of a connection that have a cause beyond "it broke".
var causes = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)refused|authentication|resolve|unreachable|no route`)
})

// report logs an error. The caller holds mu.
func (s *State) report(err kafka.Error) {
	s.stopPending()
	s.logged[err.Code()] = true
	s.reason = s.redact(timing().ReplaceAllString(err.Error(), ""))
	s.log.Warn("kafka cannot be used", "code", err.Code().String(), "err", s.reason)
}

// timing matches what differs between two errors with the same cause.
var timing = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(` \(after \d+ms in state [A-Z_]+(, \d+ identical error\(s\) suppressed)?\)`)
})

func (s *State) stopPending() {
	if s.pending != nil {
		s.pending.Stop()
		s.pending = nil
	}
}

// Worked notes that the brokers answered.
func (s *State) Worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopPending()
	if s.reason != "" {
		s.log.Warn("kafka can be used again", "was", s.reason)
		s.reason = ""
		clear(s.logged)
	}
}

// explain adds the known reason to an error that says less.
func (s *State) explain(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, s.reason)
}
