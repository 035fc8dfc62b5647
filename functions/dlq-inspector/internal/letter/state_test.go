package letter

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

var statuses = []Status{Open, Replaying, Resolved, Sent, Discarded}

var token = uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")

func end(outcome Outcome) func(State) (State, error) {
	return func(s State) (State, error) { return s.End(token, outcome) }
}

// transitions are all methods of State that change it, End with every outcome.
var transitions = map[string]func(State) (State, error){
	"begin":          func(s State) (State, error) { return s.Begin(Attempt{Token: token, MaxReplays: 3}) },
	"end (resolved)": end(OutcomeResolved),
	"end (sent)":     end(OutcomeSent),
	"end (refused)":  end(OutcomeRefused),
	"end (skipped)":  end(OutcomeSkipped),
	"end (none)":     end(OutcomeNone),
	"discard":        State.Discard,
	"restore":        State.Restore,
}

// Every transition from every status: it leads to a status, or is refused with a code and changes nothing.
func TestTransitionsOfALetter(t *testing.T) {
	t.Parallel()
	type row struct {
		from       Status
		transition string
		to         Status
		code       string // of a transition that is refused
	}
	rows := []row{
		{Open, "begin", Replaying, ""},
		{Open, "end (resolved)", "", "replay_lost"},
		{Open, "end (sent)", "", "replay_lost"},
		{Open, "end (refused)", "", "replay_lost"},
		{Open, "end (skipped)", "", "replay_lost"},
		{Open, "end (none)", "", "replay_lost"},
		{Open, "discard", Discarded, ""},
		{Open, "restore", "", "not_discarded"},

		{Replaying, "begin", "", "not_open"},
		{Replaying, "end (resolved)", Resolved, ""},
		{Replaying, "end (sent)", Sent, ""},
		{Replaying, "end (refused)", Open, ""},
		{Replaying, "end (skipped)", Open, ""},
		{Replaying, "end (none)", Open, ""},
		{Replaying, "discard", "", "not_open"},
		{Replaying, "restore", "", "not_discarded"},

		{Resolved, "begin", "", "not_open"},
		{Resolved, "end (resolved)", "", "replay_lost"},
		{Resolved, "end (sent)", "", "replay_lost"},
		{Resolved, "end (refused)", "", "replay_lost"},
		{Resolved, "end (skipped)", "", "replay_lost"},
		{Resolved, "end (none)", "", "replay_lost"},
		{Resolved, "discard", "", "not_open"},
		{Resolved, "restore", "", "not_discarded"},

		{Sent, "begin", "", "not_open"},
		{Sent, "end (resolved)", "", "replay_lost"},
		{Sent, "end (sent)", "", "replay_lost"},
		{Sent, "end (refused)", "", "replay_lost"},
		{Sent, "end (skipped)", "", "replay_lost"},
		{Sent, "end (none)", "", "replay_lost"},
		{Sent, "discard", "", "not_open"},
		{Sent, "restore", "", "not_discarded"},

		{Discarded, "begin", "", "not_open"},
		{Discarded, "end (resolved)", "", "replay_lost"},
		{Discarded, "end (sent)", "", "replay_lost"},
		{Discarded, "end (refused)", "", "replay_lost"},
		{Discarded, "end (skipped)", "", "replay_lost"},
		{Discarded, "end (none)", "", "replay_lost"},
		{Discarded, "discard", "", "not_open"},
		{Discarded, "restore", Open, ""},
	}
	seen := map[string]bool{}
	for _, r := range rows {
		name := fmt.Sprintf("%s from %s", r.transition, r.from)
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := State{Status: r.from, Token: &token, Correction: 2}
			after, err := transitions[r.transition](before)
			if r.code != "" {
				require.Equal(t, r.code, fault.CodeOf(err))
				require.Equal(t, fault.Conflict, fault.KindOf(err))
				require.Equal(t, before, after)
				return
			}
			require.NoError(t, err)
			require.Equal(t, r.to, after.Status)
			require.NotEqual(t, before.Status, after.Status)
		})
	}
	for _, from := range statuses {
		for transition := range transitions {
			require.True(t, seen[fmt.Sprintf("%s from %s", transition, from)], "no row for %s from %s", transition, from)
		}
	}
}

// Only verdicts count, and no outcome leaves anything of the replay behind.
func TestEndOfAReplay(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[Outcome]State{
		OutcomeResolved: {Status: Resolved, ReplayCount: 2},
		OutcomeSent:     {Status: Sent, ReplayCount: 2},
		OutcomeRefused:  {Status: Open, ReplayCount: 2},
		OutcomeSkipped:  {Status: Open, ReplayCount: 2},
		OutcomeNone:     {Status: Open, ReplayCount: 1},
	} {
		t.Run(string(outcome), func(t *testing.T) {
			t.Parallel()
			s, err := State{Status: Open, ReplayCount: 1}.Begin(Attempt{Token: token, Lease: new(time.Second), MaxReplays: 2})
			require.NoError(t, err)
			require.Equal(t, 1, s.ReplayCount, "a replay that is killed has not counted")
			after, err := s.End(token, outcome)
			require.NoError(t, err)
			require.Equal(t, want, after)
			_, err = s.End(uuid.New(), outcome)
			require.Equal(t, "replay_lost", fault.CodeOf(err), "another replay has the letter")
		})
	}
}

func TestBeginOfAReplay(t *testing.T) {
	t.Parallel()
	_, err := State{Status: Open, ReplayCount: 2}.Begin(Attempt{MaxReplays: 2})
	require.Equal(t, "replay_limit", fault.CodeOf(err))
	s, err := State{Status: Open, ReplayCount: 2, Correction: 4}.Begin(Attempt{MaxReplays: 2, Force: true})
	require.NoError(t, err)
	require.Equal(t, 4, s.Correction)
	s, err = State{Status: Open, Correction: 4}.Begin(Attempt{MaxReplays: 2, Edited: true})
	require.NoError(t, err)
	require.Equal(t, 5, s.Correction)
	_, err = State{Status: Open, Correction: math.MaxInt32}.Begin(Attempt{MaxReplays: 2, Edited: true})
	require.Equal(t, "replay_limit", fault.CodeOf(err), "no column holds one more")
}
