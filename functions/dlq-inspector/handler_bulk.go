package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/shared/api"
)

func accepted(op huma.Operation) huma.Operation {
	op.DefaultStatus = http.StatusAccepted
	return op
}

type bulkRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Repeats with the same key give the same replay for 24 hours"`
	Body           struct {
		Filter struct {
			Fingerprint string     `json:"fingerprint,omitempty" maxLength:"64"`
			Symbol      string     `json:"symbol,omitempty" maxLength:"32"`
			Topic       string     `json:"topic,omitempty" maxLength:"249"`
			Q           string     `json:"q,omitempty" maxLength:"200" doc:"Text in code, reason, symbol, source or id"`
			Since       *time.Time `json:"since,omitempty" doc:"Last failure at or after"`
			Until       *time.Time `json:"until,omitempty" doc:"Last failure before"`
		} `json:"filter,omitempty" doc:"Open letters only; empty: all of them"`
		Target        string `json:"target,omitempty" enum:"function,topic" default:"function" doc:"function: the one that refused them; topic: exact copies to the original topics, in the order of their records, for other consumers"`
		DryRun        bool   `json:"dry_run,omitempty" doc:"Change nothing: say what would come of it"`
		Force         bool   `json:"force,omitempty" doc:"Go on although most letters are refused, and replay letters although MAX_REPLAYS is reached"`
		RatePerSecond int    `json:"rate_per_second,omitempty" minimum:"1" maximum:"10000" default:"200" doc:"Letters a second, at most"`
		Reason        string `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
	}
}

type bulkBody struct {
	ID            uuid.UUID        `json:"id"`
	Status        string           `json:"status" enum:"running,completed,cancelled,stopped" doc:"stopped: by itself, for the reason in stop_reason"`
	Target        string           `json:"target" enum:"function,topic"`
	DryRun        bool             `json:"dry_run"`
	Force         bool             `json:"force"`
	Filter        filter           `json:"filter"`
	RatePerSecond int              `json:"rate_per_second"`
	Who           string           `json:"who"`
	Reason        string           `json:"reason,omitempty"`
	Matched       int64            `json:"matched" doc:"Open letters that the filter selected when it was asked for"`
	Done          int64            `json:"done" doc:"Letters that have their outcome; when it is completed, all"`
	Outcomes      map[string]int64 `json:"outcomes" doc:"Letters by what came of them, or would: resolved, refused, sent, skipped"`
	Reasons       map[string]int64 `json:"reasons" doc:"Refused and skipped letters by code; skipped are not_open, replay_limit, not_exact, no_verdict"`
	Trouble       *string          `json:"trouble" nullable:"true" doc:"Why it rests just now; null: it does not"`
	StopReason    *string          `json:"stop_reason" nullable:"true" doc:"Why it stopped by itself"`
	CancelledBy   *string          `json:"cancelled_by" nullable:"true" doc:"The operator who cancelled it"`
	CreatedAt     time.Time        `json:"created_at"`
	FinishedAt    *time.Time       `json:"finished_at" nullable:"true" doc:"null while it is running"`
}

func bulkOf(b bulk) bulkBody {
	out := bulkBody{
		ID: b.ID, Status: b.Status, Target: b.Target, DryRun: b.DryRun, Force: b.Force, Filter: b.Filter, RatePerSecond: b.Rate, Who: b.Who,
		Reason: b.Reason, Matched: b.Matched, Outcomes: map[string]int64{outcomeResolved: 0, outcomeRefused: 0, outcomeSent: 0, outcomeSkipped: 0},
		Reasons: b.Reasons, Trouble: b.Trouble, StopReason: b.StopReason, CancelledBy: b.CancelledBy, CreatedAt: b.CreatedAt.UTC(),
	}
	for outcome, n := range b.Outcomes {
		out.Outcomes[outcome] += n
		out.Done += n
	}
	if b.FinishedAt != nil {
		at := b.FinishedAt.UTC()
		out.FinishedAt = &at
	}
	return out
}

type bulkAnswer struct{ Body bulkBody }

type bulkAccepted struct {
	Location string `header:"Location" doc:"Path of the replay"`
	Body     bulkBody
}

// replayMany begins a replay and answers at once: the work goes on beside requests, and with ticks.
func (h *handler) replayMany(ctx context.Context, in *bulkRequest) (*bulkAccepted, error) {
	f := in.Body.Filter
	asked, err := json.Marshal(in.Body)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	fingerprint := sha256.Sum256(asked)
	b, err := h.store.createBulk(ctx, bulk{
		Who: who(ctx), Reason: in.Body.Reason, Target: in.Body.Target, DryRun: in.Body.DryRun, Force: in.Body.Force, Rate: in.Body.RatePerSecond,
		Filter: filter{
			Fingerprint: clean(f.Fingerprint), Symbol: clean(f.Symbol), Topic: clean(f.Topic), Q: clean(f.Q), Since: f.Since, Until: f.Until,
		},
	}, clean(in.IdempotencyKey), fingerprint[:])
	if err != nil {
		return nil, err
	}
	if err := h.bulks.start(context.WithoutCancel(ctx)); err != nil {
		h.bulks.log.WarnContext(ctx, "replay left to the ticks", "replay_id", b.ID, "err", err)
	}
	return &bulkAccepted{Location: "/dlq/replays/" + b.ID.String(), Body: bulkOf(b)}, nil
}

type bulkIDRequest struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (h *handler) showReplay(ctx context.Context, in *bulkIDRequest) (*bulkAnswer, error) {
	b, err := h.store.bulk(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &bulkAnswer{bulkOf(b)}, nil
}

func (h *handler) cancelReplay(ctx context.Context, in *bulkIDRequest) (*bulkAnswer, error) {
	b, err := h.store.cancelBulk(ctx, in.ID, who(ctx))
	if err != nil {
		return nil, err
	}
	h.bulks.halt(in.ID)
	return &bulkAnswer{bulkOf(b)}, nil
}

type bulksRequest struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	PageToken string `query:"page_token" maxLength:"200" doc:"next_page_token of the page before"`
}

type bulksAnswer struct {
	Body struct {
		Replays       []bulkBody `json:"replays"`
		NextPageToken *string    `json:"next_page_token" nullable:"true" doc:"null at the end"`
	}
}

func (h *handler) listReplays(ctx context.Context, in *bulksRequest) (*bulksAnswer, error) {
	before, err := api.ReadToken[uuid.UUID](in.PageToken)
	if err != nil {
		return nil, err
	}
	all, err := h.store.bulks(ctx, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &bulksAnswer{}
	out.Body.Replays = []bulkBody{}
	all, out.Body.NextPageToken = api.Page(all, in.Limit, func(b bulk) uuid.UUID { return b.ID })
	for _, b := range all {
		out.Body.Replays = append(out.Body.Replays, bulkOf(b))
	}
	return out, nil
}
