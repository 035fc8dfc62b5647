package operators

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/api"
	"marketdata/shared/fault"
)

// examples are the values of the document's examples.
var examples = struct {
	letter, replay uuid.UUID
	at             time.Time
}{
	uuid.MustParse("0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"), uuid.MustParse("0190f5d9-11aa-7b3c-8e10-6f2d3c4b5a69"), time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC),
}

// doc returns d with what all operations of dead letters have.
func doc(d api.Doc, codes ...string) api.Doc {
	d.Codes = append(append(d.Codes, fault.CodeStorageUnavailable), codes...)
	d.Details = map[string]string{
		fault.CodeUnauthorized: "the operator token is not known", fault.CodeFunctionUnavailable: "no replica of the function dlq-inspector is ready",
		fault.CodeRateLimited: "the limit of 1200 requests in 1m is used up", fault.CodeBodyTooLarge: "the body is larger than 4194304 bytes",
	}
	return d
}

// changing returns d with what all operations have that change something.
func changing(d api.Doc, codes ...string) api.Doc {
	return doc(d, append(codes, fault.CodeReadOnlyToken)...)
}

const audited = " The change is in the audit trail, with the name of the token."

// explain says what the operations do, with examples.
func explain(routes *api.API) {
	me := meAnswer{}.Body
	me.Name, me.Role = "alice", Operator
	reader := me
	reader.Name, reader.Role = "bob", Reader
	routes.Explain("show-me", doc(api.Doc{
		Description: "Tells a page whether to offer changes. A reader's token is refused with read_only_token by every operation that is not a GET.",
		Returns:     "The name and the role of the token", Answer: api.Examples{"an operator": me, "a reader": reader},
	}))
	explainLetters(routes)
	explainBulks(routes)
}

func exampleLetter() LetterBody {
	at := examples.at
	return LetterBody{
		Summary: summaryOf(letter.Stored{
			ID: examples.letter, State: letter.State{Status: letter.Open}, Code: fault.CodeInvalidPrice, Reason: "price must be greater than 0", Fingerprint: "3f1c9a40be217d5c",
			Symbol: new("AAPL"), Exact: true, FirstFailedAt: at, LastFailedAt: at, FailureCount: 1,
		}),
		Value: new(`{"symbol":"AAPL","price":-1,"timestamp":"2024-03-20T10:30:00Z","source":"yfinance","raw_response_id":"` + examples.replay.String() + `"}`), ValueEncoding: "text",
		Key: new("AAPL"), KeyEncoding: "text", Headers: []headerBody{{"ce_type", new("marketdata.price.observed.v1"), "text"}},
		Attributes: map[string]string{"id": "evt-1", "source": "/prices/yfinance", "type": "marketdata.price.observed.v1"}, ContentType: "application/json", RecordedAt: &at,
		Failures: []failureBody{{fault.CodeInvalidPrice, "price must be greater than 0", "compute-ma", at}}, Audit: []AuditBody{},
	}
}

func explainLetters(routes *api.API) {
	open := exampleLetter()
	open.Topic, open.Partition, open.Offset = new("price-events"), new(int32(3)), new(int64(4711))
	entry := func(action letter.Action, before, after letter.Status) AuditBody {
		state := func(s letter.Status) json.RawMessage {
			return json.RawMessage(`{"status":"` + string(s) + `","replay_count":0,"correction":0}`)
		}
		return AuditBody{At: examples.at.Add(time.Hour), Who: "alice", Action: string(action), Reason: "corrected by hand", Before: state(before), After: state(after)}
	}
	resolved, refused, discarded, restored := open, open, open, open
	resolved.Status, resolved.ReplayCount, resolved.Correction = string(letter.Resolved), 1, 1
	resolved.Audit = []AuditBody{entry(letter.ActionReplay, letter.Open, letter.Replaying), entry(letter.ActionResolve, letter.Replaying, letter.Resolved)}
	refused.ReplayCount, refused.FailureCount = 1, 2
	discarded.Status, discarded.Audit = string(letter.Discarded), []AuditBody{entry(letter.ActionDiscard, letter.Open, letter.Discarded)}
	restored.Audit = append(discarded.Audit[:1:1], entry(letter.ActionRestore, letter.Discarded, letter.Open))

	page, searched := listAnswer{}.Body, listAnswer{}.Body
	page.Messages, page.NextPageToken = []Summary{open.Summary}, new(api.ExampleToken)
	searched.Messages, searched.ValuesSearched = []Summary{open.Summary}, new(true)
	routes.Explain("list-letters", doc(api.Doc{
		Description: "All letters that the filters select together, without their contents, the newest failure first. Letters that arrive meanwhile neither shift nor repeat others. " +
			"Each failure of one event is in one letter, however often it was delivered.",
		Returns: "A page of letters", Answer: api.Examples{"a page": page, "found with q": searched},
		Links: api.Links("id", "$response.body#/messages/0/id", "show-letter"),
	}))
	links := api.Links("id", "$response.body#/id", "show-letter", "replay-letter", "discard-letter", "restore-letter")
	routes.Explain("show-letter", doc(api.Doc{
		Description: "The letter with its value, key and headers byte for byte (base64 if they are not text), its failures, and its audit trail.",
		Returns:     "The letter", Answer: api.Examples{"open": open, "resolved by a replay": resolved}, Links: links,
	}, fault.CodeMessageNotFound))
	groups := groupsAnswer{}.Body
	hours := make([]int64, 24)
	hours[23] = 12
	groups.Groups = []group{{
		Fingerprint: "3f1c9a40be217d5c", Code: fault.CodeInvalidPrice, Reason: "price must be greater than 0", Letters: 12, Open: 11, First: examples.at, Last: examples.at, Hours: hours,
		Meaning: open.Meaning, Remedy: open.Remedy,
	}}
	routes.Explain("group-letters", doc(api.Doc{
		Description: "The causes of letters, the one with the most open letters first. Failures of one code have one cause if their reasons differ only in numbers, ids and quoted text.",
		Returns:     "A page of causes", Answer: api.Examples{"one cause": groups},
	}))
	stats := statsAnswer{}.Body
	stats.Statuses = map[letter.Status]int64{letter.Open: 11, letter.Replaying: 0, letter.Resolved: 1, letter.Sent: 0, letter.Discarded: 0}
	routes.Explain("count-letters", doc(api.Doc{
		Description: "How many letters have each status. They are counted when they change, so this costs the same for any number of them.",
		Returns:     "The counts", Answer: api.Examples{"twelve letters": stats},
	}))
	routes.Explain("replay-letter", changing(api.Doc{
		Description: "Delivers the event to the function that refused it, and waits for the verdict, at most 12 seconds. If it accepts the event, the letter is resolved; if it refuses it, " +
			"the letter is open again with the new failure: that is a 200, too. Without a verdict the answer is replay_failed, and the letter is open.\n\n" +
			"Delivery is at least once, and the event keeps its id and source, so a repeat is harmless; a letter that is not open is not_open. " +
			"An edited value or a transform is checked against the event's schema first. With target topic an exact copy goes to the original topic, and the letter is sent; " +
			"such a replay takes neither value nor transform. MAX_REPLAYS replays of one letter need force." + audited,
		Request: api.Examples{
			"as it is": map[string]any{"reason": "the database is back"},
			"with another value": map[string]any{
				"value":  `{"symbol":"AAPL","price":150.25,"timestamp":"2024-03-20T10:30:00Z","source":"yfinance","raw_response_id":"` + examples.replay.String() + `"}`,
				"reason": "corrected by hand",
			},
			"transformed":  map[string]any{"transform": ".price |= tonumber", "reason": "the price was text"},
			"to the topic": map[string]any{"target": "topic", "reason": "other consumers need it"},
		},
		Returns: "The letter after the replay", Answer: api.Examples{"accepted": resolved, "refused again": refused}, Links: links,
	}, fault.CodeMessageNotFound, fault.CodeNotOpen, fault.CodeReplayLimit, fault.CodeReplayLost, fault.CodeNotExact, fault.CodeReplayFailed, fault.CodeInexact,
		fault.CodeTransformFailed, fault.CodeUndecodable, fault.CodeNoData, fault.CodeInvalidSchema, fault.CodeInvalidSymbol, fault.CodeInvalidProvider, fault.CodeInvalidPrice,
		fault.CodeInvalidTimestamp))
	reason := api.Examples{"with a reason": map[string]any{"reason": "known, see the incident"}}
	routes.Explain("discard-letter", changing(api.Doc{
		Description: "Sets an open letter aside; it can be restored until DLQ_RETENTION is over. A letter that is not open is not_open, so a repeat changes nothing." + audited,
		Request:     reason, Returns: "The letter, discarded", Answer: api.Examples{"discarded": discarded}, Links: links,
	}, fault.CodeMessageNotFound, fault.CodeNotOpen))
	routes.Explain("restore-letter", changing(api.Doc{
		Description: "Opens a discarded letter again. A letter that is not discarded is not_discarded, so a repeat changes nothing." + audited,
		Request:     reason, Returns: "The letter, open", Answer: api.Examples{"open": restored}, Links: links,
	}, fault.CodeMessageNotFound, fault.CodeNotDiscarded))
}
