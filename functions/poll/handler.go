package main

import (
	"context"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

type store interface {
	tickStore
	create(ctx context.Context, c jobConfig, client, key string) (id string, err error)
	job(ctx context.Context, id string) (job, []result, error)
	jobs(ctx context.Context, status string, after *string, limit int) ([]job, error)
	runs(ctx context.Context, id string, before *time.Time, limit int) ([]recorded, error)
	setStatus(ctx context.Context, id, status string) error
	remove(ctx context.Context, id string) error
}

type handler struct {
	store           store
	known           func(provider string) bool
	defaultProvider string
	tick            *ticker
}

// maxTickBytes bounds the body of a tick, which says nothing that we read.
const maxTickBytes = 64 << 10

func (h *handler) routes(mux *http.ServeMux, routes *api.API, createLimit, limit service.Middleware) {
	mux.Handle("POST /{$}", ingress.Handler{MaxBytes: maxTickBytes, Handle: h.event})
	op := func(id, method, path, summary string, status int, errs ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"polling"}, DefaultStatus: status,
			Errors: append([]int{400, 429, 500, 503}, errs...),
		}
	}
	api.Handle(routes, op("create-job", http.MethodPost, "/prices/poll", "Create a polling job", http.StatusAccepted, 409, 413, 415), h.create, createLimit)
	api.Handle(routes, op("list-jobs", http.MethodGet, "/prices/poll", "List polling jobs", http.StatusOK), h.list, limit)
	api.Handle(routes, op("show-job", http.MethodGet, "/prices/poll/{job_id}", "Show a polling job", http.StatusOK, 404), h.show, limit)
	api.Handle(routes, op("list-runs", http.MethodGet, "/prices/poll/{job_id}/runs", "List the runs of a polling job, newest first", http.StatusOK, 404), h.listRuns, limit)
	api.Handle(routes, op("pause-job", http.MethodPost, "/prices/poll/{job_id}/pause", "Pause a polling job", http.StatusOK, 404), h.setStatus("paused"), limit)
	api.Handle(routes, op("resume-job", http.MethodPost, "/prices/poll/{job_id}/resume", "Resume a polling job", http.StatusOK, 404), h.setStatus("active"), limit)
	api.Handle(routes, op("delete-job", http.MethodDelete, "/prices/poll/{job_id}", "Delete a polling job", http.StatusNoContent, 404), h.remove, limit)
}

// event takes ticks. PingSource tries 503 again, and 500 not.
func (h *handler) event(ctx context.Context, d ingress.Delivery) error {
	if !d.IsTick() {
		return fault.New(fault.Invalid, "invalid_type", "event type is not dev.knative.sources.ping")
	}
	return h.tick.run(ctx)
}

type createRequest struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"Repeats with the same key give the same job for 24 hours"`
	Body           struct {
		Symbols  []string `json:"symbols" minItems:"1" maxItems:"100" doc:"Instruments; duplicates are folded"`
		Interval int      `json:"interval,omitempty" minimum:"5" maximum:"86400" default:"60" doc:"Seconds between two fetches"`
		Provider string   `json:"provider,omitempty" maxLength:"32" doc:"DEFAULT_PROVIDER if absent; auto: the first of PROVIDER_CHAIN that answers"`
	}
}

type createAnswer struct {
	Location string `header:"Location" doc:"Path of the job"`
	Body     createBody
}

type createBody struct {
	JobID  string     `json:"job_id" example:"poll_0190f5d800007000800000000000abcd"`
	Status string     `json:"status" enum:"accepted"`
	Config configBody `json:"config"`
}

type configBody struct {
	Symbols  []market.Symbol `json:"symbols"`
	Interval int             `json:"interval" doc:"Seconds"`
	Provider string          `json:"provider"`
}

func (h *handler) create(ctx context.Context, in *createRequest) (*createAnswer, error) {
	provider := in.Body.Provider
	if provider == "" {
		provider = h.defaultProvider
	}
	if provider != auto && !h.known(provider) {
		return nil, fault.New(fault.Invalid, "unknown_provider", "there is no provider of that name")
	}
	c, err := normalise(in.Body.Symbols, in.Body.Interval, provider)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(in.IdempotencyKey) {
		return nil, fault.New(fault.Invalid, "invalid_parameter", "Idempotency-Key is not UTF-8")
	}
	id, err := h.store.create(ctx, c, ratelimit.Client(ctx), in.IdempotencyKey) // idempotency keys are each client's own
	if err != nil {
		return nil, err
	}
	return &createAnswer{Location: "/prices/poll/" + id, Body: createBody{id, "accepted", configBody(c)}}, nil
}

type jobBody struct {
	JobID     string       `json:"job_id"`
	Status    string       `json:"status" enum:"active,paused"`
	Config    configBody   `json:"config"`
	CreatedAt time.Time    `json:"created_at"`
	NextRunAt time.Time    `json:"next_run_at"`
	LastRunAt *time.Time   `json:"last_run_at" nullable:"true" doc:"null before the first run"`
	Runs      int64        `json:"runs" doc:"Recorded runs"`
	Failures  int64        `json:"failures" doc:"Runs in which at least one symbol failed"`
	Results   []resultBody `json:"results,omitempty" doc:"Last result of each symbol"`
}

type resultBody struct {
	Symbol    market.Symbol `json:"symbol"`
	At        time.Time     `json:"at"`
	Price     api.Number    `json:"price,omitempty"`
	Timestamp *time.Time    `json:"timestamp,omitempty" doc:"When the provider observed the price"`
	Provider  *string       `json:"provider,omitempty" doc:"The provider that answered"`
	Code      *string       `json:"code,omitempty" doc:"Code of the problem if it failed; out_of_time: the tick had no time for it, and the next starts with it"`
}

func bodyOf(j job, results []result) jobBody {
	b := jobBody{
		JobID: j.ID, Status: j.Status, Config: configBody(j.Config), CreatedAt: j.CreatedAt.UTC(), NextRunAt: j.NextRunAt.UTC(),
		LastRunAt: utc(j.LastRunAt), Runs: j.Runs, Failures: j.Failures,
	}
	for _, r := range results {
		one := resultBody{Symbol: r.Symbol, At: r.At.UTC(), Timestamp: utc(r.ObservedAt), Provider: r.Provider, Code: r.Code}
		if r.Price != nil {
			one.Price = api.Number(r.Price.String())
		}
		b.Results = append(b.Results, one)
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
	ID string `path:"job_id" maxLength:"64"`
}

type jobAnswer struct{ Body jobBody }

func (h *handler) show(ctx context.Context, in *jobRequest) (*jobAnswer, error) {
	j, results, err := h.store.job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &jobAnswer{bodyOf(j, results)}, nil
}

func (h *handler) setStatus(status string) func(context.Context, *jobRequest) (*jobAnswer, error) {
	return func(ctx context.Context, in *jobRequest) (*jobAnswer, error) {
		if err := h.store.setStatus(ctx, in.ID, status); err != nil {
			return nil, err
		}
		return h.show(ctx, in)
	}
}

func (h *handler) remove(ctx context.Context, in *jobRequest) (*struct{}, error) {
	return nil, h.store.remove(ctx, in.ID)
}

type listRequest struct {
	Status    string `query:"status" enum:"active,paused"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	PageToken string `query:"page_token" maxLength:"200" doc:"next_page_token of the page before"`
}

type listAnswer struct {
	Body struct {
		Jobs          []jobBody `json:"jobs"`
		NextPageToken *string   `json:"next_page_token" nullable:"true" doc:"null at the end"`
	}
}

func (h *handler) list(ctx context.Context, in *listRequest) (*listAnswer, error) {
	after, err := api.ReadToken[string](in.PageToken)
	if err == nil && after != nil && !isJobID(*after) {
		err = fault.New(fault.Invalid, "invalid_parameter", "page_token is not one of ours")
	}
	if err != nil {
		return nil, err
	}
	jobs, err := h.store.jobs(ctx, in.Status, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listAnswer{}
	out.Body.Jobs = []jobBody{}
	jobs, out.Body.NextPageToken = api.Page(jobs, in.Limit, func(j job) string { return j.ID })
	for _, j := range jobs {
		out.Body.Jobs = append(out.Body.Jobs, bodyOf(j, nil))
	}
	return out, nil
}

type runsRequest struct {
	ID        string `path:"job_id" maxLength:"64"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	PageToken string `query:"page_token" maxLength:"200" doc:"next_page_token of the page before"`
}

type runBody struct {
	ScheduledAt time.Time `json:"scheduled_at" doc:"The period: created_at + k × interval"`
	FinishedAt  time.Time `json:"finished_at"`
	Failed      int       `json:"failed" doc:"Symbols that failed"`
}

type runsAnswer struct {
	Body struct {
		Runs          []runBody `json:"runs"`
		NextPageToken *string   `json:"next_page_token" nullable:"true" doc:"null at the end"`
	}
}

func (h *handler) listRuns(ctx context.Context, in *runsRequest) (*runsAnswer, error) {
	before, err := api.ReadToken[time.Time](in.PageToken)
	if err != nil {
		return nil, err
	}
	runs, err := h.store.runs(ctx, in.ID, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &runsAnswer{}
	out.Body.Runs = []runBody{}
	runs, out.Body.NextPageToken = api.Page(runs, in.Limit, func(r recorded) time.Time { return r.ScheduledAt.UTC() })
	for _, r := range runs {
		out.Body.Runs = append(out.Body.Runs, runBody{r.ScheduledAt.UTC(), r.FinishedAt.UTC(), r.Failed})
	}
	return out, nil
}
