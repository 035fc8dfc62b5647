package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

var statuses = []string{statusOpen, statusReplaying, statusResolved, statusSent, statusDiscarded}

// Each step starts from one status alone; from any other it changes nothing and says why.
func TestStepsOfALetter(t *testing.T) {
	t.Parallel()
	token := uuid.New()
	steps := map[string]struct {
		from, code string
		step       func(state) (state, error)
	}{
		"begin":   {statusOpen, "not_open", func(s state) (state, error) { return s.begin(attempt{token: token, maxReplays: 3}) }},
		"end":     {statusReplaying, "replay_lost", func(s state) (state, error) { return s.end(token, outcomeResolved) }},
		"discard": {statusOpen, "not_open", state.discard},
		"restore": {statusDiscarded, "not_discarded", state.restore},
	}
	for name, c := range steps {
		for _, from := range statuses {
			before := state{Status: from, token: &token, Correction: 2}
			after, err := c.step(before)
			if from == c.from {
				require.NoError(t, err, "%s from %s", name, from)
				require.NotEqual(t, before.Status, after.Status)
				continue
			}
			require.Equal(t, c.code, fault.CodeOf(err), "%s from %s", name, from)
			require.Equal(t, before, after)
		}
	}
}

// Verdicts alone count, and every outcome leaves nothing of the replay behind.
func TestEndOfAReplay(t *testing.T) {
	t.Parallel()
	token := uuid.New()
	for outcome, want := range map[string]state{
		outcomeResolved: {Status: statusResolved, ReplayCount: 2},
		outcomeSent:     {Status: statusSent, ReplayCount: 2},
		outcomeRefused:  {Status: statusOpen, ReplayCount: 2},
		outcomeNone:     {Status: statusOpen, ReplayCount: 1},
	} {
		s, err := state{Status: statusOpen, ReplayCount: 1}.begin(attempt{token: token, lease: new(time.Second), maxReplays: 2})
		require.NoError(t, err)
		require.Equal(t, 1, s.ReplayCount, "a replay that is killed has not counted")
		after, err := s.end(token, outcome)
		require.NoError(t, err)
		require.Equal(t, want, after, outcome)
		_, err = s.end(uuid.New(), outcome)
		require.Equal(t, "replay_lost", fault.CodeOf(err), "it is somebody else's")
	}
}

func TestBeginOfAReplay(t *testing.T) {
	t.Parallel()
	_, err := state{Status: statusOpen, ReplayCount: 2}.begin(attempt{maxReplays: 2})
	require.Equal(t, "replay_limit", fault.CodeOf(err))
	s, err := state{Status: statusOpen, ReplayCount: 2, Correction: 4}.begin(attempt{maxReplays: 2, force: true})
	require.NoError(t, err)
	require.Equal(t, 4, s.Correction)
	s, err = state{Status: statusOpen, Correction: 4}.begin(attempt{maxReplays: 2, edited: true})
	require.NoError(t, err)
	require.Equal(t, 5, s.Correction)
	_, err = state{Status: statusOpen, Correction: math.MaxInt32}.begin(attempt{maxReplays: 2, edited: true})
	require.Equal(t, "replay_limit", fault.CodeOf(err), "no column holds one more")
}

func TestWhatAReplayOfManyDoesWithALetter(t *testing.T) {
	t.Parallel()
	ours, theirs := uuid.New(), uuid.New()
	open := candidate{state: state{Status: statusOpen}}
	with := func(change func(*candidate)) candidate { c := open; change(&c); return c }
	cases := map[string]struct {
		b        bulk
		c        candidate
		sendable bool
		want     decision
		code     string
	}{
		"open":                  {bulk{}, open, false, doTake, ""},
		"owed":                  {bulk{ID: ours}, with(func(c *candidate) { c.bulk = &ours }), false, doTake, ""},
		"owed by another":       {bulk{ID: ours}, with(func(c *candidate) { c.bulk = &theirs }), false, doSkip, "not_open"},
		"replayed just now":     {bulk{}, with(func(c *candidate) { c.Status = statusReplaying }), false, doWait, ""},
		"planned while it is":   {bulk{DryRun: true}, with(func(c *candidate) { c.Status = statusReplaying }), false, doSkip, "not_open"},
		"settled meanwhile":     {bulk{}, with(func(c *candidate) { c.Status = statusDiscarded }), false, doSkip, "not_open"},
		"replayed too often":    {bulk{}, with(func(c *candidate) { c.ReplayCount = 3 }), false, doSkip, "replay_limit"},
		"forced":                {bulk{Force: true}, with(func(c *candidate) { c.ReplayCount = 3 }), false, doTake, ""},
		"nothing to send":       {bulk{Target: toTopic}, open, false, doSkip, "not_exact"},
		"an exact copy to send": {bulk{Target: toTopic}, open, true, doTake, ""},
	}
	for name, c := range cases {
		got, code := c.b.decide(c.c, c.sendable, 3)
		require.Equal(t, c.want, got, name)
		require.Equal(t, c.code, code, name)
	}
}

func TestStopRule(t *testing.T) {
	t.Parallel()
	a, r := strings.Repeat("a", 100), strings.Repeat("r", 100)
	for name, c := range map[string]struct {
		b              bulk
		recent, latest string
		stop           bool
	}{
		"too few to tell":         {bulk{}, r, r[1:], false},
		"all of 200":              {bulk{}, r, r, true},
		"just half":               {bulk{}, a, r, false},
		"one more than half":      {bulk{}, a + r, "r", true},
		"the oldest do not count": {bulk{}, r + r + a, a, false},
		"forced":                  {bulk{Force: true}, r, r, false},
		"planned":                 {bulk{DryRun: true}, r, r, false},
	} {
		now, stop := c.b.remember(c.recent, c.latest)
		require.Equal(t, c.stop, stop != "", name)
		require.LessOrEqual(t, len(now), 200)
	}
}
