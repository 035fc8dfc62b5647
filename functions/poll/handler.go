package main

import (
	"context"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/poll/internal/ids"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

// jobStore keeps jobs. Its errors are faults. [store.Store] is one.
type jobStore interface {
	Create(ctx context.Context, c jobs.Config, client, key string) (id string, err error)
	Job(ctx context.Context, id string) (jobs.Job, []jobs.LastResult, error)
	Jobs(ctx context.Context, status jobs.Status, after *string, limit int) ([]jobs.Job, error)
	Runs(ctx context.Context, id string, before *time.Time, limit int) ([]jobs.Run, error)
	SetStatus(ctx context.Context, id string, status jobs.Status) error
	Remove(ctx context.Context, id string) error
	Backoffs(ctx context.Context) (map[string]jobs.Backoff, error)
}

type handler struct {
	store           jobStore
	known           func(provider string) bool
	defaultProvider string
	chain           []string // the providers that auto tries
	tick            func(ctx context.Context) error
	backfills       *backfills
}

// maxTickBytes bounds the body of a tick, which nothing reads.
const maxTickBytes = 64 << 10

func (h *handler) routes(mux *http.ServeMux, routes *api.API, createLimit, limit service.Middleware) {
	mux.Handle("POST /{$}", ingress.Handler{MaxBytes: maxTickBytes, Handle: h.event})
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{api.TagPolling}, DefaultStatus: status}
	}
	api.Handle(routes, op("create-job", http.MethodPost, "/prices/poll", "Create a polling job", http.StatusAccepted), h.create, createLimit)
	api.Handle(routes, op("list-jobs", http.MethodGet, "/prices/poll", "List polling jobs", http.StatusOK), h.list, limit)
	api.Handle(routes, op("show-job", http.MethodGet, "/prices/poll/{job_id}", "Show a polling job", http.StatusOK), h.show, limit)
	api.Handle(routes, op("list-runs", http.MethodGet, "/prices/poll/{job_id}/runs", "List the runs of a polling job, newest first", http.StatusOK), h.listRuns, limit)
	api.Handle(routes, op("pause-job", http.MethodPost, "/prices/poll/{job_id}/pause", "Pause a polling job", http.StatusOK), h.setStatus(jobs.Paused), limit)
	api.Handle(routes, op("resume-job", http.MethodPost, "/prices/poll/{job_id}/resume", "Resume a polling job", http.StatusOK), h.setStatus(jobs.Active), limit)
	api.Handle(routes, op("delete-job", http.MethodDelete, "/prices/poll/{job_id}", "Delete a polling job", http.StatusNoContent), h.remove, limit)
	explain(routes)
	h.backfills.routes(routes, createLimit, limit)
	routes.Document(describe(h.backfills.historian))
}

// event handles ticks. PingSource retries after 503, but not after 500.
func (h *handler) event(ctx context.Context, d ingress.Delivery) error {
	if !d.IsTick() {
		return fault.New(fault.Invalid, fault.CodeInvalidType, "event type is not dev.knative.sources.ping")
	}
	return h.tick(ctx)
}

type createRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Repeats with the same key return the same job for 24 hours" example:"nightly-2024-03-20"`
	Body           struct {
		Symbols  []string `json:"symbols" minItems:"1" maxItems:"100" doc:"Instruments; repeated ones are dropped" example:"[\"AAPL\",\"MSFT\"]"`
		Interval int      `json:"interval,omitempty" minimum:"5" maximum:"86400" default:"60" doc:"Seconds between two fetches"`
		Provider string   `json:"provider,omitempty" maxLength:"32" doc:"DEFAULT_PROVIDER if absent; auto: the first of PROVIDER_CHAIN that answers"`
	}
}

type createAnswer struct {
	Location string `header:"Location" doc:"Path of the job" example:"/prices/poll/poll_0190f5d800007000800000000000abcd"`
	Body     createBody
}

type createBody struct {
	JobID  string     `json:"job_id" example:"poll_0190f5d800007000800000000000abcd"`
	Status string     `json:"status" enum:"accepted"`
	Config configBody `json:"config"`
}

type configBody struct {
	Symbols  []market.Symbol `json:"symbols" doc:"Instruments, in upper case"`
	Interval int             `json:"interval" doc:"Seconds between two fetches"`
	Provider string          `json:"provider" doc:"Provider, or auto"`
}

func (h *handler) create(ctx context.Context, in *createRequest) (*createAnswer, error) {
	provider := in.Body.Provider
	if provider == "" {
		provider = h.defaultProvider
	}
	if provider != jobs.Auto && !h.known(provider) {
		return nil, fault.New(fault.Invalid, fault.CodeUnknownProvider, "unknown provider")
	}
	c, err := jobs.Parse(in.Body.Symbols, in.Body.Interval, provider)
	if err != nil {
		return nil, err
	}
	if err := checkKey(in.IdempotencyKey); err != nil {
		return nil, err
	}
	id, err := h.store.Create(ctx, c, ratelimit.Client(ctx), in.IdempotencyKey) // idempotency keys are scoped to the client
	if err != nil {
		return nil, err
	}
	return &createAnswer{Location: "/prices/poll/" + id, Body: createBody{id, "accepted", configBody(c)}}, nil
}

func checkKey(idempotency string) error {
	if !utf8.ValidString(idempotency) {
		return fault.New(fault.Invalid, fault.CodeInvalidParameter, "Idempotency-Key is not UTF-8")
	}
	return nil
}

type jobBody struct {
	JobID        string       `json:"job_id" doc:"ID of the job"`
	Status       string       `json:"status" enum:"active,paused" doc:"Whether the job runs"`
	Config       configBody   `json:"config"`
	CreatedAt    time.Time    `json:"created_at"`
	NextRunAt    *time.Time   `json:"next_run_at" nullable:"true" doc:"The period that is due next; null while the job is paused"`
	LastRunAt    *time.Time   `json:"last_run_at" nullable:"true" doc:"null before the first run"`
	BackoffUntil *time.Time   `json:"backoff_until" nullable:"true" doc:"The provider does not answer, and the job waits: no earlier than this, one call finds out whether it is back. A job of auto waits while no provider of PROVIDER_CHAIN answers. null: it does not wait"`
	Reason       *string      `json:"reason" nullable:"true" doc:"Code and text of the problem that backs the job off, or that paused it because every symbol failed for 24 hours; otherwise null"`
	Runs         int64        `json:"runs" doc:"Recorded runs"`
	Failures     int64        `json:"failures" doc:"Runs in which at least one symbol failed"`
	Results      []resultBody `json:"results,omitempty" doc:"Last result of each symbol"`
}

type resultBody struct {
	Symbol    market.Symbol `json:"symbol"`
	At        time.Time     `json:"at"`
	Price     api.Number    `json:"price,omitempty"`
	Timestamp *time.Time    `json:"timestamp,omitempty" doc:"When the provider observed the price"`
	Provider  *string       `json:"provider,omitempty" doc:"The provider that answered"`
	Code      *string       `json:"code,omitempty" doc:"Code of the problem if it failed; out_of_time: the tick ran out of time before this symbol; the next tick starts with it"`
	AskAt     *time.Time    `json:"ask_at,omitempty" doc:"With symbol_not_found: the provider is asked for the symbol again in the first period from then on, after 1, 2, 4 … periods up to a day. The runs before take over the result"`
}

func (h *handler) bodyOf(j jobs.Job, results []jobs.LastResult, off map[string]jobs.Backoff) jobBody {
	b := jobBody{
		JobID: j.ID, Status: string(j.Status), Config: configBody(j.Config), CreatedAt: j.CreatedAt.UTC(),
		LastRunAt: utc(j.LastRunAt), Runs: j.Runs, Failures: j.Failures,
	}
	var reason string
	switch backoff := jobs.BackoffOf(j.Config.Provider, h.chain, off); {
	case j.Status == jobs.Active:
		b.NextRunAt = utc(&j.NextRunAt)
		if backoff != nil {
			b.BackoffUntil, reason = utc(&backoff.Until), backoff.Reason()
		}
	case j.PausedCode != "":
		reason = jobs.PauseReason(j.PausedCode)
	}
	if reason != "" {
		b.Reason = &reason
	}
	for _, r := range results {
		b.Results = append(b.Results, resultOf(r))
	}
	return b
}

func resultOf(r jobs.LastResult) resultBody {
	b := resultBody{Symbol: r.Symbol, At: r.At.UTC()}
	if r.Outcome != jobs.OK {
		code := string(r.Outcome)
		b.Code, b.AskAt = &code, utc(r.AskAt)
		return b
	}
	b.Price, b.Timestamp = api.Number(r.Price.String()), utc(&r.ObservedAt)
	if r.Provider != "" {
		b.Provider = &r.Provider
	}
	return b
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

type jobRequest struct {
	ID string `path:"job_id" maxLength:"64" doc:"The job_id of the answer that created the job" example:"poll_0190f5d800007000800000000000abcd"`
}

type jobAnswer struct{ Body jobBody }

func (h *handler) show(ctx context.Context, in *jobRequest) (*jobAnswer, error) {
	j, results, err := h.store.Job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	off, err := h.store.Backoffs(ctx)
	if err != nil {
		return nil, err
	}
	return &jobAnswer{h.bodyOf(j, results, off)}, nil
}

func (h *handler) setStatus(status jobs.Status) func(context.Context, *jobRequest) (*jobAnswer, error) {
	return func(ctx context.Context, in *jobRequest) (*jobAnswer, error) {
		if err := h.store.SetStatus(ctx, in.ID, status); err != nil {
			return nil, err
		}
		return h.show(ctx, in)
	}
}

func (h *handler) remove(ctx context.Context, in *jobRequest) (*struct{}, error) {
	return nil, h.store.Remove(ctx, in.ID)
}

type listRequest struct {
	Status string `query:"status" enum:"active,paused" doc:"Only jobs with this status" example:"active"`
	api.Paging
}

func (in *listRequest) query() api.Query { return api.QueryOf("jobs", in.Status) }

type listAnswer struct {
	Body struct {
		Jobs []jobBody `json:"jobs"`
		api.Next
	}
}

func (h *handler) list(ctx context.Context, in *listRequest) (*listAnswer, error) {
	after, err := api.ReadToken[string](in.query(), in.PageToken)
	if err == nil && after != nil && !ids.Job.Is(*after) {
		err = api.ErrPageToken
	}
	if err != nil {
		return nil, err
	}
	all, err := h.store.Jobs(ctx, jobs.Status(in.Status), after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	off, err := h.store.Backoffs(ctx)
	if err != nil {
		return nil, err
	}
	out := &listAnswer{}
	out.Body.Jobs = []jobBody{}
	all, out.Body.Next = api.Page(in.query(), all, in.Limit, func(j jobs.Job) string { return j.ID })
	for _, j := range all {
		out.Body.Jobs = append(out.Body.Jobs, h.bodyOf(j, nil, off))
	}
	return out, nil
}

type runsRequest struct {
	ID string `path:"job_id" maxLength:"64" doc:"The job_id of the answer that created the job" example:"poll_0190f5d800007000800000000000abcd"`
	api.Paging
}

func (in *runsRequest) query() api.Query { return api.QueryOf("runs", in.ID) }

type runBody struct {
	ScheduledAt time.Time `json:"scheduled_at" doc:"The period: created_at + k × interval"`
	FinishedAt  time.Time `json:"finished_at"`
	Failed      int       `json:"failed" doc:"Symbols that failed"`
}

type runsAnswer struct {
	Body struct {
		Runs []runBody `json:"runs"`
		api.Next
	}
}

func (h *handler) listRuns(ctx context.Context, in *runsRequest) (*runsAnswer, error) {
	before, err := api.ReadToken[time.Time](in.query(), in.PageToken)
	if err != nil {
		return nil, err
	}
	runs, err := h.store.Runs(ctx, in.ID, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &runsAnswer{}
	out.Body.Runs = []runBody{}
	runs, out.Body.Next = api.Page(in.query(), runs, in.Limit, func(r jobs.Run) time.Time { return r.ScheduledAt.UTC() })
	for _, r := range runs {
		out.Body.Runs = append(out.Body.Runs, runBody{r.ScheduledAt.UTC(), r.FinishedAt.UTC(), r.Failed})
	}
	return out, nil
}
