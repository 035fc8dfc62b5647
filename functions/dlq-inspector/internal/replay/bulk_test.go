package replay

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
)

func TestWhatAReplayOfManyDoesWithALetter(t *testing.T) {
	t.Parallel()
	ours, theirs := uuid.New(), uuid.New()
	open := Candidate{State: letter.State{Status: letter.Open}}
	with := func(change func(*Candidate)) Candidate { c := open; change(&c); return c }
	cases := map[string]struct {
		b        Bulk
		c        Candidate
		sendable bool
		want     decision
		code     string
	}{
		"open":                  {Bulk{}, open, false, doTake, ""},
		"owed":                  {Bulk{ID: ours}, with(func(c *Candidate) { c.Bulk = &ours }), false, doTake, ""},
		"owed by another":       {Bulk{ID: ours}, with(func(c *Candidate) { c.Bulk = &theirs }), false, doSkip, "not_open"},
		"replayed just now":     {Bulk{}, with(func(c *Candidate) { c.Status = letter.Replaying }), false, doWait, ""},
		"planned while it is":   {Bulk{DryRun: true}, with(func(c *Candidate) { c.Status = letter.Replaying }), false, doSkip, "not_open"},
		"settled meanwhile":     {Bulk{}, with(func(c *Candidate) { c.Status = letter.Discarded }), false, doSkip, "not_open"},
		"replayed too often":    {Bulk{}, with(func(c *Candidate) { c.ReplayCount = 3 }), false, doSkip, "replay_limit"},
		"forced":                {Bulk{Force: true}, with(func(c *Candidate) { c.ReplayCount = 3 }), false, doTake, ""},
		"discarded":             {Bulk{Action: ActionDiscard}, with(func(c *Candidate) { c.ReplayCount = 3 }), false, doTake, ""},
		"discarded just now":    {Bulk{Action: ActionDiscard}, with(func(c *Candidate) { c.Status = letter.Discarded }), false, doSkip, "not_open"},
		"in flight":             {Bulk{Action: ActionDiscard}, with(func(c *Candidate) { c.Status = letter.Replaying }), false, doSkip, "not_open"},
		"nothing to send":       {Bulk{Target: ToTopic}, open, false, doSkip, "not_exact"},
		"an exact copy to send": {Bulk{Target: ToTopic}, open, true, doTake, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, why := c.b.decide(c.c, c.sendable, 3)
			require.Equal(t, c.want, got)
			if c.code == "" {
				require.NoError(t, why)
			} else {
				require.Equal(t, c.code, fault.CodeOf(why))
			}
		})
	}
}

func TestStopRule(t *testing.T) {
	t.Parallel()
	a, r := strings.Repeat("a", 100), strings.Repeat("r", 100)
	for name, c := range map[string]struct {
		b              Bulk
		recent, latest string
		stop           bool
	}{
		"too few to tell":         {Bulk{}, r, r[1:], false},
		"all of 200":              {Bulk{}, r, r, true},
		"just half":               {Bulk{}, a, r, false},
		"one more than half":      {Bulk{}, a + r, "r", true},
		"the oldest do not count": {Bulk{}, r + r + a, a, false},
		"forced":                  {Bulk{Force: true}, r, r, false},
		"planned":                 {Bulk{DryRun: true}, r, r, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, stop := c.b.remember(c.recent, c.latest)
			require.Equal(t, c.stop, stop != "")
			require.LessOrEqual(t, len(now), 200)
		})
	}
}
