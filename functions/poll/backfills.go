package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/ids"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

// backfillStore keeps backfills. Its errors are faults. [store.Store] is one.
type backfillStore interface {
	CreateBackfill(ctx context.Context, c backfill.Config, client, key string) (id string, err error)
	Backfill(ctx context.Context, id string) (backfill.Backfill, []backfill.Series, error)
	Backfills(ctx context.Context, after *string, limit int) ([]backfill.Backfill, error)
	PauseBackfill(ctx context.Context, id string, paused bool) error
	RemoveBackfill(ctx context.Context, id string) error
}

// backfills is the HTTP API of backfills.
type backfills struct {
	store           backfillStore
	known           func(provider string) bool
	historian       func(provider string) market.Historian // nil if the provider has no history
	defaultProvider string
	kick            func(context.Context) // starts with a new backfill, if the replica lives; ticks do the rest
	now             func() time.Time
}

func (h *backfills) routes(routes *api.API, createLimit, limit service.Middleware) {
	const one = "/prices/backfill/{backfill_id}"
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{api.TagBackfills}, DefaultStatus: status}
	}
	api.Handle(routes, op("create-backfill", http.MethodPost, "/prices/backfill", "Fetch the bars of a range, and without an end each new one", http.StatusAccepted), h.create, createLimit)
	api.Handle(routes, op("list-backfills", http.MethodGet, "/prices/backfill", "List backfills", http.StatusOK), h.list, limit)
	api.Handle(routes, op("show-backfill", http.MethodGet, one, "Show a backfill with the progress of its symbols", http.StatusOK), h.show, limit)
	api.Handle(routes, op("pause-backfill", http.MethodPost, one+"/pause", "Pause a backfill", http.StatusOK), h.pause(true), limit)
	api.Handle(routes, op("resume-backfill", http.MethodPost, one+"/resume", "Resume a backfill: it fetches what it has missed", http.StatusOK), h.pause(false), limit)
	api.Handle(routes, op("delete-backfill", http.MethodDelete, one, "Delete a backfill; its prices stay", http.StatusNoContent), h.remove, limit)
	explainBackfills(routes)
}

type backfillRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Repeats with the same key return the same backfill for 24 hours" example:"history-2024-03-20"`
	Body           struct {
		Symbols  []string `json:"symbols" minItems:"1" maxItems:"100" doc:"Instruments; repeated ones are dropped" example:"[\"AAPL\",\"MSFT\"]"`
		Provider string   `json:"provider,omitempty" maxLength:"32" doc:"DEFAULT_PROVIDER if absent"`
		Interval string   `json:"interval" enum:"1m,5m,15m,1h,1d" doc:"Length of a bar. The series is named after provider and interval: yfinance-1d"`
		Start    string   `json:"start" maxLength:"64" doc:"Start of the range, inclusive: RFC 3339, a date, or milliseconds since 1970"`
		End      string   `json:"end,omitempty" maxLength:"64" doc:"End of the range, exclusive, in the same forms; if absent, the backfill follows: it fetches each new bar"`
	}
}

type backfillCreated struct {
	Location string `header:"Location" doc:"Path of the backfill" example:"/prices/backfill/bf_0190f5d800007000800000000000abcd"`
	Body     struct {
		BackfillID string         `json:"backfill_id" example:"bf_0190f5d800007000800000000000abcd"`
		Status     string         `json:"status" enum:"accepted"`
		Config     backfillConfig `json:"config"`
	}
}

type backfillConfig struct {
	Symbols  []market.Symbol `json:"symbols"`
	Provider string          `json:"provider"`
	Interval market.Interval `json:"interval"`
	Start    time.Time       `json:"start"`
	End      *time.Time      `json:"end" nullable:"true" doc:"null: it follows"`
}

func (h *backfills) create(ctx context.Context, in *backfillRequest) (*backfillCreated, error) {
	provider, interval := in.Body.Provider, market.Interval(in.Body.Interval)
	if provider == "" {
		provider = h.defaultProvider
	}
	if err := h.checkHistory(provider, interval); err != nil {
		return nil, err
	}
	symbols, err := jobs.ParseSymbols(in.Body.Symbols)
	if err != nil {
		return nil, err
	}
	c, err := backfill.Parse(symbols, provider, interval, in.Body.Start, in.Body.End, h.now())
	if err != nil {
		return nil, err
	}
	if err := checkKey(in.IdempotencyKey); err != nil {
		return nil, err
	}
	id, err := h.store.CreateBackfill(ctx, c, ratelimit.Client(ctx), in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	h.kick(ctx)
	out := &backfillCreated{Location: "/prices/backfill/" + id}
	out.Body.BackfillID, out.Body.Status, out.Body.Config = id, "accepted", configOf(c)
	return out, nil
}

// checkHistory refuses a provider without a history of that interval, and says who has which.
func (h *backfills) checkHistory(provider string, interval market.Interval) error {
	if !h.known(provider) {
		return fault.New(fault.Invalid, fault.CodeUnknownProvider, "unknown provider")
	}
	historian := h.historian(provider)
	if historian == nil {
		var others []string
		for _, name := range market.Providers() {
			if other := h.historian(name); other != nil {
				others = append(others, name+" ("+joined(other.Intervals())+")")
			}
		}
		return fault.New(fault.Invalid, fault.CodeNoHistory, "%s has no history; these have: %s", provider, strings.Join(others, ", "))
	}
	for _, has := range historian.Intervals() {
		if has == interval {
			return nil
		}
	}
	return fault.New(fault.Invalid, fault.CodeNoHistory, "%s has no bars of %s; it has %s", provider, interval, joined(historian.Intervals()))
}

func joined(intervals []market.Interval) string { return strings.Trim(fmt.Sprint(intervals), "[]") }

func configOf(c backfill.Config) backfillConfig {
	return backfillConfig{c.Symbols, c.Provider, c.Interval, c.Start.UTC(), utc(c.End)}
}

type backfillBody struct {
	BackfillID string         `json:"backfill_id"`
	Status     string         `json:"status" enum:"active,paused,complete" doc:"complete: every symbol is covered to the end of the range"`
	Config     backfillConfig `json:"config"`
	CreatedAt  time.Time      `json:"created_at"`
	Series     []seriesBody   `json:"series,omitempty" doc:"Progress of each symbol"`
}

type seriesBody struct {
	Symbol   market.Symbol `json:"symbol"`
	State    string        `json:"state" enum:"filling,following,adjusting,complete" doc:"adjusting: a split made the history be fetched again"`
	From     *time.Time    `json:"from" nullable:"true" doc:"The first bar; null: none yet"`
	To       *time.Time    `json:"to" nullable:"true" doc:"The last bar"`
	Bars     int64         `json:"bars" doc:"Bars stored since the start, or since the last split"`
	Missing  int64         `json:"missing_known" doc:"Intervals of one day, or weekdays, without a bar between two others: holidays, no trades, or bars that the provider lost"`
	NextAt   *time.Time    `json:"next_at" nullable:"true" doc:"When the provider is asked next; null if complete"`
	Failures int           `json:"failures,omitempty" doc:"Calls in a row that failed"`
	Error    string        `json:"last_error,omitempty" doc:"Code of the problem with the last call, if it failed"`
}

func backfillOf(b backfill.Backfill, series []backfill.Series) backfillBody {
	out := backfillBody{BackfillID: b.ID, Status: "active", Config: configOf(b.Config), CreatedAt: b.CreatedAt.UTC()}
	for _, s := range series {
		out.Series = append(out.Series, seriesOf(s))
	}
	switch {
	case b.Done:
		out.Status = "complete"
	case b.Paused:
		out.Status = "paused"
	}
	return out
}

func seriesOf(s backfill.Series) seriesBody {
	out := seriesBody{
		Symbol: s.Symbol, State: "filling", From: orNull(s.First), To: orNull(s.Last), Bars: s.Bars, Missing: s.Missing, NextAt: orNull(s.NotBefore),
		Failures: s.Failures, Error: s.LastCode,
	}
	switch {
	case s.Done:
		out.State, out.NextAt = "complete", nil
	case s.Complete:
		out.State = "following"
	case s.Generation > 0:
		out.State = "adjusting"
	}
	return out
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return utc(&t)
}

type backfillPath struct {
	ID string `path:"backfill_id" maxLength:"64" doc:"The backfill_id of the answer that created the backfill" example:"bf_0190f5d800007000800000000000abcd"`
}

type backfillAnswer struct{ Body backfillBody }

func (h *backfills) show(ctx context.Context, in *backfillPath) (*backfillAnswer, error) {
	b, series, err := h.store.Backfill(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &backfillAnswer{backfillOf(b, series)}, nil
}

func (h *backfills) pause(paused bool) func(context.Context, *backfillPath) (*backfillAnswer, error) {
	return func(ctx context.Context, in *backfillPath) (*backfillAnswer, error) {
		if err := h.store.PauseBackfill(ctx, in.ID, paused); err != nil {
			return nil, err
		}
		return h.show(ctx, in)
	}
}

func (h *backfills) remove(ctx context.Context, in *backfillPath) (*struct{}, error) {
	return nil, h.store.RemoveBackfill(ctx, in.ID)
}

type backfillsRequest struct{ api.Paging }

func (in *backfillsRequest) query() api.Query { return api.QueryOf("backfills") }

type backfillsAnswer struct {
	Body struct {
		Backfills []backfillBody `json:"backfills"`
		api.Next
	}
}

func (h *backfills) list(ctx context.Context, in *backfillsRequest) (*backfillsAnswer, error) {
	after, err := api.ReadToken[string](in.query(), in.PageToken)
	if err == nil && after != nil && !ids.Backfill.Is(*after) {
		err = api.ErrPageToken
	}
	if err != nil {
		return nil, err
	}
	all, err := h.store.Backfills(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &backfillsAnswer{}
	out.Body.Backfills = []backfillBody{}
	all, out.Body.Next = api.Page(in.query(), all, in.Limit, func(b backfill.Backfill) string { return b.ID })
	for _, b := range all {
		out.Body.Backfills = append(out.Body.Backfills, backfillOf(b, nil))
	}
	return out, nil
}
