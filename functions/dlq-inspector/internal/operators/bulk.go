package operators

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/api"
	"marketdata/shared/fault"
)

// Selection says which letters bulk work is for. It is exported because the document would otherwise leave it out of the requests.
type Selection struct {
	IDs    []uuid.UUID `json:"ids,omitempty" minItems:"1" maxItems:"1000" doc:"These letters; one that is not open is skipped (not_open, message_not_found)"`
	Filter *filterBody `json:"filter,omitempty" doc:"All open letters that it selects; empty: all. Not together with ids"`
}

type filterBody struct {
	Fingerprint string     `json:"fingerprint,omitempty" maxLength:"64" doc:"A group"`
	Symbol      string     `json:"symbol,omitempty" maxLength:"32"`
	Topic       string     `json:"topic,omitempty" maxLength:"249"`
	Q           string     `json:"q,omitempty" maxLength:"200" doc:"Text in code, reason, symbol, source, id or value (its first 64 KiB); one of less than three letters or digits in a row is a symbol"`
	Since       *time.Time `json:"since,omitempty" doc:"Last failure at or after"`
	Until       *time.Time `json:"until,omitempty" doc:"Last failure before"`
}

// filter returns the filter in storable texts.
func (s Selection) filter() (out letter.Filter, err error) {
	if f := s.Filter; f != nil {
		out = letter.Filter{
			Fingerprint: letter.Clean(f.Fingerprint), Symbol: letter.Clean(f.Symbol), Topic: letter.Clean(f.Topic), Q: letter.Clean(f.Q),
			Since: f.Since, Until: f.Until,
		}
	}
	if s.IDs != nil {
		if s.Filter != nil {
			return out, fault.New(fault.Invalid, fault.CodeInvalidParameter, "either ids or filter: not both")
		}
		out.IDs = slices.Clone(s.IDs)
		slices.SortFunc(out.IDs, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		out.IDs = slices.Compact(out.IDs)
	}
	return out, nil
}

type bulkRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"A repeated request with the same key returns the same replay for 24 hours" example:"replay-2024-03-20"`
	Body           struct {
		Selection
		Target        string `json:"target,omitempty" enum:"function,topic" default:"function" doc:"function: the one that refused them; topic: exact copies to the original topics, in the order of their records, for other consumers"`
		Transform     string `json:"transform,omitempty" maxLength:"10000" doc:"A jq program that makes the data of each event: see the README. Its result is an edit"`
		DryRun        bool   `json:"dry_run,omitempty" doc:"Change nothing, and return the outcomes that a replay would have"`
		Force         bool   `json:"force,omitempty" doc:"Go on although most letters are refused, and replay letters although MAX_REPLAYS is reached"`
		RatePerSecond int    `json:"rate_per_second,omitempty" minimum:"1" maximum:"10000" default:"200" doc:"Letters a second, at most"`
		Reason        string `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
	}
}

type bulkDiscardRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"A repeated request with the same key returns the same discard for 24 hours" example:"discard-2024-03-20"`
	Body           struct {
		Selection
		DryRun bool   `json:"dry_run,omitempty" doc:"Change nothing, and return the outcomes that a discard would have"`
		Reason string `json:"reason" minLength:"1" maxLength:"1000" doc:"For the audit trail"`
	}
}

// BulkBody is a bulk replay or discard in an answer.
type BulkBody struct {
	ID            uuid.UUID        `json:"id"`
	Action        string           `json:"action" enum:"replay,discard"`
	Status        string           `json:"status" enum:"running,completed,cancelled,stopped" doc:"stopped: by the inspector, for the reason in stop_reason"`
	Target        string           `json:"target" enum:"function,topic"`
	Transform     string           `json:"transform,omitempty" doc:"A jq program for the data of the events"`
	DryRun        bool             `json:"dry_run"`
	Force         bool             `json:"force"`
	Filter        letter.Filter    `json:"filter"`
	Selection     string           `json:"selection" enum:"ids,filter" doc:"ids: the letters were given by their ids, which a list of replays leaves out"`
	RatePerSecond int              `json:"rate_per_second"`
	Who           string           `json:"who"`
	Reason        string           `json:"reason,omitempty"`
	Matched       int64            `json:"matched" doc:"Letters whose ids were given, or open letters that the filter selected when the replay was created"`
	Done          int64            `json:"done" doc:"Letters that have an outcome; all of them once the replay is completed"`
	Outcomes      map[string]int64 `json:"outcomes" doc:"Letters by outcome: resolved, refused, sent, skipped, or of a discard: discarded, skipped; of a dry run, the outcomes that a replay would have"`
	Reasons       map[string]int64 `json:"reasons" doc:"Refused and skipped letters by code; skipped ones have not_open, message_not_found, replay_limit, not_exact, no_verdict, body_too_large, inexact, transform_failed, or what the event's schema says of the transformed value"`
	Trouble       *string          `json:"trouble" nullable:"true" doc:"Why it is paused; null: it is not"`
	StopReason    *string          `json:"stop_reason" nullable:"true" doc:"Why the inspector stopped it"`
	CancelledBy   *string          `json:"cancelled_by" nullable:"true" doc:"The operator who cancelled it"`
	CreatedAt     time.Time        `json:"created_at"`
	FinishedAt    *time.Time       `json:"finished_at" nullable:"true" doc:"null while it is running"`
	Samples       []sampleBody     `json:"samples,omitempty" doc:"Of a plan: up to ten letters before and after"`
}

type sampleBody struct {
	ID             uuid.UUID `json:"id" format:"uuid"`
	Before         *string   `json:"before" nullable:"true" doc:"The value, or its beginning"`
	BeforeEncoding string    `json:"before_encoding" enum:"text,base64"`
	BeforeBytes    int       `json:"before_bytes" doc:"Length of the whole value"`
	After          *string   `json:"after" nullable:"true" doc:"What would be sent, or its beginning; null: nothing"`
	AfterEncoding  string    `json:"after_encoding" enum:"text,base64"`
	AfterBytes     int       `json:"after_bytes"`
	VerdictText
}

// VerdictText is a verdict in an answer. It is exported because the document would otherwise leave it out.
type VerdictText struct {
	Verdict string `json:"verdict" enum:"resolved,refused,sent,discarded,skipped"`
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func verdictOf(v letter.Verdict) VerdictText {
	if v.Outcome == letter.OutcomeNone {
		v.Outcome = letter.OutcomeSkipped
	}
	return VerdictText{string(v.Outcome), v.Code, v.Reason}
}

func samplesOf(all []replay.Sample) []sampleBody {
	out := make([]sampleBody, len(all))
	for i, s := range all {
		out[i] = sampleBody{ID: s.ID, BeforeBytes: s.BeforeBytes, AfterBytes: s.AfterBytes, VerdictText: verdictOf(s.Verdict)}
		out[i].Before, out[i].BeforeEncoding = textOf(s.Before)
		out[i].After, out[i].AfterEncoding = textOf(s.After)
	}
	return out
}

func bulkOf(b replay.Bulk) BulkBody {
	out := BulkBody{
		ID: b.ID, Action: string(b.Action), Status: string(b.Status), Target: string(b.Target), Transform: b.Transform, DryRun: b.DryRun, Force: b.Force, Filter: b.Filter, Selection: "filter",
		RatePerSecond: b.Rate, Who: b.Who, Reason: b.Reason, Matched: b.Matched, Reasons: b.Reasons, Trouble: b.Trouble, StopReason: b.StopReason, CancelledBy: b.CancelledBy,
		CreatedAt: b.CreatedAt.UTC(), Outcomes: map[string]int64{},
	}
	if b.Filter.IDs != nil {
		out.Selection = "ids"
	}
	outcomes := []letter.Outcome{letter.OutcomeResolved, letter.OutcomeRefused, letter.OutcomeSent, letter.OutcomeSkipped}
	if b.Action == replay.ActionDiscard {
		outcomes = []letter.Outcome{letter.OutcomeDiscarded, letter.OutcomeSkipped}
	}
	for _, outcome := range outcomes {
		out.Outcomes[string(outcome)] = 0
	}
	for outcome, n := range b.Outcomes {
		out.Outcomes[string(outcome)] += n
		out.Done += n
	}
	if b.FinishedAt != nil {
		at := b.FinishedAt.UTC()
		out.FinishedAt = &at
	}
	return out
}

type bulkAnswer struct{ Body BulkBody }

type bulkAccepted struct {
	Location string `header:"Location" doc:"Path of the replay" example:"/dlq/replays/0190f5d9-11aa-7b3c-8e10-6f2d3c4b5a69"`
	Body     BulkBody
}

func (a *API) createReplay(ctx context.Context, in *bulkRequest) (*bulkAccepted, error) {
	if in.Body.IDs == nil && in.Body.Filter == nil {
		in.Body.Filter = &filterBody{}
	}
	if in.Body.Transform != "" {
		if replay.Target(in.Body.Target) == replay.ToTopic {
			return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "a transformed value goes to the function: a topic gets exact copies")
		}
		if _, err := transform.Compile(in.Body.Transform); err != nil {
			return nil, err
		}
	}
	return a.createBulk(ctx, in.Body.Selection, in.IdempotencyKey, in.Body, replay.Bulk{
		Action: replay.ActionReplay, Transform: in.Body.Transform, Reason: in.Body.Reason, Target: replay.Target(in.Body.Target), DryRun: in.Body.DryRun, Force: in.Body.Force,
		Rate: in.Body.RatePerSecond,
	})
}

func (a *API) createDiscard(ctx context.Context, in *bulkDiscardRequest) (*bulkAccepted, error) {
	if in.Body.IDs == nil && in.Body.Filter == nil {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "send ids or a filter; an empty filter selects all open letters")
	}
	return a.createBulk(ctx, in.Body.Selection, in.IdempotencyKey, in.Body, replay.Bulk{
		Action: replay.ActionDiscard, Reason: in.Body.Reason, DryRun: in.Body.DryRun, Rate: maxRate,
	})
}

// maxRate is the rate of a discard, which no part of it reads: nothing is sent.
const maxRate = 10000

// createBulk creates bulk work and answers at once: the work is done in the background, and by ticks. asked is the request's body: an
// idempotency key stands for one action and body.
func (a *API) createBulk(ctx context.Context, s Selection, key string, asked any, b replay.Bulk) (*bulkAccepted, error) {
	f, err := s.filter()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	if b.Action == replay.ActionDiscard {
		text = append(text, b.Action...)
	}
	fingerprint := sha256.Sum256(text)
	b.Who, b.Filter = who(ctx), f
	b, err = a.Store.CreateBulk(ctx, b, letter.Clean(key), fingerprint[:])
	if err != nil {
		return nil, err
	}
	if err := a.Bulks.Start(context.WithoutCancel(ctx)); err != nil {
		a.Log.WarnContext(ctx, "bulk replay waits for the next tick", "replay_id", b.ID, "err", err)
	}
	return &bulkAccepted{Location: "/dlq/replays/" + b.ID.String(), Body: bulkOf(b)}, nil
}

type bulkIDRequest struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"ID of the replay or discard" example:"0190f5d9-11aa-7b3c-8e10-6f2d3c4b5a69"`
}

func (a *API) showReplay(ctx context.Context, in *bulkIDRequest) (*bulkAnswer, error) {
	b, err := a.Store.Bulk(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &bulkAnswer{bulkOf(b)}
	if b.DryRun {
		samples, err := a.Store.Samples(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		out.Body.Samples = samplesOf(samples)
	}
	return out, nil
}

type verdictsRequest struct {
	ID      uuid.UUID `path:"id" format:"uuid" doc:"ID of the replay or discard" example:"0190f5d9-11aa-7b3c-8e10-6f2d3c4b5a69"`
	Verdict string    `query:"verdict" enum:"resolved,refused,sent,discarded,skipped" doc:"Only these verdicts" example:"skipped"`
	Code    string    `query:"code" maxLength:"200" doc:"Only verdicts with this code" example:"not_open"`
	api.Paging
}

type verdictBody struct {
	ID uuid.UUID `json:"id" format:"uuid" doc:"Of the letter"`
	VerdictText
}

type verdictsAnswer struct {
	Body struct {
		Verdicts []verdictBody `json:"verdicts" doc:"By letter; kept for seven days"`
		api.Next
	}
}

func (a *API) listVerdicts(ctx context.Context, in *verdictsRequest) (*verdictsAnswer, error) {
	if _, err := a.Store.Bulk(ctx, in.ID); err != nil {
		return nil, err
	}
	query := api.QueryOf("verdicts", in.ID, in.Verdict, in.Code)
	after, err := api.ReadToken[uuid.UUID](query, in.PageToken)
	if err != nil {
		return nil, err
	}
	all, err := a.Store.Verdicts(ctx, in.ID, letter.Verdict{Outcome: letter.Outcome(in.Verdict), Code: letter.Clean(in.Code)}, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &verdictsAnswer{}
	out.Body.Verdicts = []verdictBody{}
	all, out.Body.Next = api.Page(query, all, in.Limit, func(v replay.LetterVerdict) uuid.UUID { return v.ID })
	for _, v := range all {
		out.Body.Verdicts = append(out.Body.Verdicts, verdictBody{v.ID, verdictOf(v.Verdict)})
	}
	return out, nil
}

func (a *API) cancelReplay(ctx context.Context, in *bulkIDRequest) (*bulkAnswer, error) {
	b, err := a.Store.CancelBulk(ctx, in.ID, who(ctx))
	if err != nil {
		return nil, err
	}
	a.Bulks.Halt(in.ID)
	return &bulkAnswer{bulkOf(b)}, nil
}

type bulksAnswer struct {
	Body struct {
		Replays []BulkBody `json:"replays"`
		api.Next
	}
}

func (a *API) listReplays(ctx context.Context, in *api.Paging) (*bulksAnswer, error) {
	query := api.QueryOf("replays")
	before, err := api.ReadToken[uuid.UUID](query, in.PageToken)
	if err != nil {
		return nil, err
	}
	all, err := a.Store.Bulks(ctx, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &bulksAnswer{}
	out.Body.Replays = []BulkBody{}
	all, out.Body.Next = api.Page(query, all, in.Limit, func(b replay.Bulk) uuid.UUID { return b.ID })
	for _, b := range all {
		body := bulkOf(b)
		body.Filter.IDs = nil // up to 36 kB each: an answer about one replay has them
		out.Body.Replays = append(out.Body.Replays, body)
	}
	return out, nil
}
