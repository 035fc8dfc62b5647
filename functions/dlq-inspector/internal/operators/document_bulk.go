package operators

import (
	"time"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/api"
	"marketdata/shared/fault"
)

func exampleBulk() BulkBody {
	return BulkBody{
		ID: examples.replay, Action: "replay", Status: "running", Target: "function", Filter: letter.Filter{Fingerprint: "3f1c9a40be217d5c"}, Selection: "filter",
		RatePerSecond: 200, Who: "alice", Reason: "the database is back", Matched: 11, Done: 4,
		Outcomes: map[string]int64{"resolved": 3, "refused": 0, "sent": 0, "skipped": 1}, Reasons: map[string]int64{fault.CodeNotOpen: 1}, CreatedAt: examples.at,
	}
}

// explainBulks says what the operations on replays and discards of many letters do, with examples.
func explainBulks(routes *api.API) {
	running := exampleBulk()
	fresh, completed, cancelled, plan, discard := running, running, running, running, running
	fresh.Done, fresh.Outcomes, fresh.Reasons = 0, map[string]int64{"resolved": 0, "refused": 0, "sent": 0, "skipped": 0}, map[string]int64{}
	ended := examples.at.Add(time.Minute)
	completed.Status, completed.Done, completed.FinishedAt = "completed", 11, &ended
	completed.Outcomes = map[string]int64{"resolved": 10, "refused": 0, "sent": 0, "skipped": 1}
	cancelled.Status, cancelled.FinishedAt, cancelled.CancelledBy = "cancelled", &ended, new("alice")
	plan.DryRun, plan.Transform, plan.Status, plan.FinishedAt, plan.Outcomes, plan.Done = true, ".price |= tonumber", "completed", &ended, completed.Outcomes, 11
	plan.Samples = []sampleBody{{
		ID: examples.letter, Before: new(`{"price":"150.25"}`), BeforeEncoding: "text", BeforeBytes: 18, After: new(`{"price":150.25}`), AfterEncoding: "text", AfterBytes: 16,
		VerdictText: VerdictText{Verdict: "resolved"},
	}}
	discard.Action, discard.Done, discard.Reasons, discard.Outcomes = "discard", 0, map[string]int64{}, map[string]int64{"discarded": 0, "skipped": 0}
	links := api.Links("id", "$response.body#/id", "show-replay", "list-verdicts", "cancel-replay")

	const once = "The answer comes at once; see the progress at its Location. The work survives restarts: a letter that was in flight is delivered once more, which is harmless. " +
		"With an Idempotency-Key, a repeat within 24 hours returns the same work, per operator; the same key with another body is idempotency_conflict. "
	routes.Explain("replay-letters", changing(api.Doc{
		Description: "Replays up to 1000 letters by their ids, or all open letters that a filter selects (without both: all open ones), oldest first. " + once +
			"Letters that cannot be replayed are skipped, each with a code in reasons. It stops if more than half of its last 200 letters are refused, unless force is set. " +
			"With dry_run nothing changes: the outcomes are those of a rehearsal." + audited,
		Request: api.Examples{
			"a cause":                 map[string]any{"filter": map[string]any{"fingerprint": "3f1c9a40be217d5c"}, "reason": "the database is back"},
			"a plan with a transform": map[string]any{"filter": map[string]any{"symbol": "AAPL"}, "transform": ".price |= tonumber", "dry_run": true},
			"two letters":             map[string]any{"ids": []any{examples.letter, examples.replay}, "rate_per_second": 50},
		},
		Returns: "The replay, which runs in the background", Answer: api.Examples{"running": fresh}, Links: links,
	}, fault.CodeIdempotencyConflict))
	routes.Explain("discard-letters", changing(api.Doc{
		Description: "Sets aside up to 1000 letters by their ids, or all open letters that a filter selects (an empty filter: all). " + once + "Letters that are not open are skipped." + audited,
		Request: api.Examples{
			"a cause":     map[string]any{"filter": map[string]any{"fingerprint": "3f1c9a40be217d5c"}, "reason": "known, see the incident"},
			"two letters": map[string]any{"ids": []any{examples.letter, examples.replay}, "reason": "test data"},
		},
		Returns: "The discard, which runs in the background", Answer: api.Examples{"running": discard}, Links: links,
	}, fault.CodeIdempotencyConflict))
	page := bulksAnswer{}.Body
	page.Replays = []BulkBody{running, discard}
	routes.Explain("list-replays", doc(api.Doc{
		Description: "All replays, plans and discards of many letters, the newest first, without the ids that they were given.",
		Returns:     "A page of replays and discards", Answer: api.Examples{"a replay and a discard": page}, Links: api.Links("id", "$response.body#/replays/0/id", "show-replay", "list-verdicts"),
	}))
	routes.Explain("show-replay", doc(api.Doc{
		Description: "The progress. Every letter has an outcome once it is completed. While the function does not answer, it is paused, and trouble says why. A plan has up to ten samples.",
		Returns:     "The replay or discard", Answer: api.Examples{"running": running, "completed": completed, "a plan": plan}, Links: links,
	}, fault.CodeReplayNotFound))
	verdicts := verdictsAnswer{}.Body
	verdicts.Verdicts = []verdictBody{{examples.letter, VerdictText{"skipped", fault.CodeNotOpen, "the letter is resolved, not open"}}}
	routes.Explain("list-verdicts", doc(api.Doc{
		Description: "By letter; kept for seven days. A plan has a verdict on each letter, other work only on those that it skipped.",
		Returns:     "A page of verdicts", Answer: api.Examples{"a letter was skipped": verdicts},
	}, fault.CodeReplayNotFound))
	routes.Explain("cancel-replay", changing(api.Doc{
		Description: "Ends the work: no further letter is sent or set aside. Those in flight are settled and counted; what was done stays. Work that has ended is not_running.",
		Returns:     "The replay or discard, cancelled", Answer: api.Examples{"cancelled": cancelled},
	}, fault.CodeReplayNotFound, fault.CodeNotRunning))
}
