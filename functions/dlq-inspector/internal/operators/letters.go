package operators

import (
	"context"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/priceevent"
	"marketdata/shared/timerange"
)

type listRequest struct {
	Status      string `query:"status" enum:"open,replaying,resolved,sent,discarded" doc:"Only letters with this status" example:"open"`
	Fingerprint string `query:"fingerprint" maxLength:"64" doc:"Only letters of this group of causes, see group-letters" example:"3f1c9a40be217d5c"`
	Symbol      string `query:"symbol" maxLength:"32" doc:"Only letters of this instrument, in any case" example:"AAPL"`
	Topic       string `query:"topic" maxLength:"249" doc:"Only letters whose original record is of this topic" example:"price-events"`
	Q           string `query:"q" maxLength:"200" doc:"Text in code, reason, symbol, source, id or value (its first 64 KiB); one of less than three letters or digits in a row is a symbol. If it is in very many letters, a page can have less than limit of them, or none, although more follow: go by next_page_token" example:"price must be"`
	SameKeyAs   string `query:"same_key_as" format:"uuid" doc:"Letters whose record has the same key as that of this letter; a null key has none" example:"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"`
	Since       string `query:"since" format:"date-time" doc:"Last failure at or after" example:"2024-03-20T00:00:00Z"`
	Until       string `query:"until" format:"date-time" doc:"Last failure before" example:"2024-03-21T00:00:00Z"`
	api.Paging
}

func (in listRequest) query() api.Query {
	in.Paging = api.Paging{}
	return api.QueryOf("letters", in)
}

type listAnswer struct {
	Body struct {
		Messages       []Summary  `json:"messages"`
		ValuesSearched *bool      `json:"values_searched,omitempty" doc:"With q: false if the database lacks the extension pg_trgm, so that values were not searched"`
		SearchedUntil  *time.Time `json:"searched_until,omitempty" doc:"With q, on a page that has less than limit letters although more pages follow: it has all letters that match and failed after this time"`
		api.Next
	}
}

// instant parses a bound of a range of time. Empty text means no bound.
func instant(name, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no bound is a bound
	}
	at, err := timerange.ParseRFC3339(text)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter, "%s is not an RFC 3339 date-time", name)
	}
	return &at, nil
}

func (a *API) list(ctx context.Context, in *listRequest) (*listAnswer, error) {
	f := letter.Filter{
		Status: letter.Status(in.Status), Fingerprint: letter.Clean(in.Fingerprint), Symbol: letter.Clean(in.Symbol), Topic: letter.Clean(in.Topic),
		Q: letter.Clean(in.Q),
	}
	if in.SameKeyAs != "" {
		id, err := uuid.Parse(in.SameKeyAs)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter, "same_key_as is not the id of a letter")
		}
		f.SameKeyAs = &id
	}
	var err error
	if f.Since, err = instant("since", in.Since); err != nil {
		return nil, err
	}
	if f.Until, err = instant("until", in.Until); err != nil {
		return nil, err
	}
	after, err := api.ReadToken[letter.ListKey](in.query(), in.PageToken)
	if err != nil {
		return nil, err
	}
	page, err := a.Store.List(ctx, f, after, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listAnswer{}
	out.Body.SearchedUntil = page.Searched
	if f.Q != "" {
		out.Body.ValuesSearched = &page.Values
	}
	if page.Next != nil {
		token := api.Token(in.query(), *page.Next)
		out.Body.NextPageToken = &token
	}
	out.Body.Messages = []Summary{}
	for _, l := range page.Letters {
		out.Body.Messages = append(out.Body.Messages, summaryOf(l.Stored))
	}
	return out, nil
}

type letterRequest struct {
	ID uuid.UUID `path:"id" format:"uuid" doc:"ID of the letter" example:"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"`
}

type letterAnswer struct{ Body LetterBody }

func (a *API) show(ctx context.Context, in *letterRequest) (*letterAnswer, error) {
	l, failures, trail, err := a.Store.Letter(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &letterAnswer{bodyOf(l, failures, trail)}, nil
}

type group struct {
	Fingerprint string    `json:"fingerprint"`
	Code        string    `json:"code"`
	Reason      string    `json:"reason" doc:"Of one letter of the group"`
	Letters     int64     `json:"letters"`
	Open        int64     `json:"open"`
	First       time.Time `json:"first_failed_at"`
	Last        time.Time `json:"last_failed_at"`
	Hours       []int64   `json:"per_hour" doc:"Failures in each of the last 24 hours (UTC); the current one is the last"`
	Meaning     string    `json:"meaning,omitempty" doc:"What the code means, if it is one of compute-ma's"`
	Remedy      string    `json:"remedy,omitempty" doc:"What can be done about it"`
}

func groupOf(g letter.Group) group {
	out := group{
		Fingerprint: g.Fingerprint, Code: g.Code, Reason: g.Reason, Letters: g.Letters, Open: g.Open, First: g.First, Last: g.Last,
		Hours: g.Hours,
	}
	if r, ok := priceevent.Explain(g.Code); ok {
		out.Meaning, out.Remedy = r.Meaning, r.Remedy
	}
	return out
}

type groupsAnswer struct {
	Body struct {
		Groups []group `json:"groups"`
		api.Next
	}
}

func (a *API) groups(ctx context.Context, in *api.Paging) (*groupsAnswer, error) {
	query := api.QueryOf("groups")
	after, err := api.ReadToken[letter.GroupKey](query, in.PageToken)
	if err != nil {
		return nil, err
	}
	if after != nil {
		after.Fingerprint = letter.Clean(after.Fingerprint)
	}
	all, err := a.Store.Groups(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &groupsAnswer{}
	all, out.Body.Next = api.Page(query, all, in.Limit, func(g letter.Group) letter.GroupKey {
		return letter.GroupKey{Open: g.Open, Letters: g.Letters, Fingerprint: g.Fingerprint}
	})
	out.Body.Groups = []group{}
	for _, g := range all {
		out.Body.Groups = append(out.Body.Groups, groupOf(g))
	}
	return out, nil
}

type statsAnswer struct {
	Body struct {
		Statuses map[letter.Status]int64 `json:"statuses" doc:"Letters by status"`
	}
}

func (a *API) stats(ctx context.Context, _ *struct{}) (*statsAnswer, error) {
	counts, err := a.Store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	out := &statsAnswer{}
	out.Body.Statuses = counts
	return out, nil
}

type replayRequest struct {
	ID   uuid.UUID `path:"id" format:"uuid" doc:"ID of the letter" example:"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"`
	Body *struct {
		Value         *string `json:"value,omitempty" doc:"Replaces the event's value; checked against the event's schema first"`
		ValueEncoding string  `json:"value_encoding,omitempty" enum:"text,base64"`
		Transform     string  `json:"transform,omitempty" maxLength:"10000" doc:"A jq program that makes the event's data: see the README. Not together with value"`
		Reason        string  `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
		Force         bool    `json:"force,omitempty" doc:"Replay although MAX_REPLAYS is reached"`
		Target        string  `json:"target,omitempty" enum:"function,topic" doc:"function (the default): the one that refused it; topic: an exact copy to the original topic, for other consumers"`
	}
}

func (a *API) replay(ctx context.Context, in *replayRequest) (*letterAnswer, error) {
	o := replay.Order{Who: who(ctx)}
	if in.Body != nil {
		o.Reason, o.Force, o.Target = in.Body.Reason, in.Body.Force, replay.Target(in.Body.Target)
		if in.Body.Value != nil {
			value, err := letter.Decode(*in.Body.Value, in.Body.ValueEncoding)
			if err != nil {
				return nil, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter, "value is not %s", in.Body.ValueEncoding)
			}
			o.Value, o.Edited = value, true
		}
		if in.Body.Transform != "" {
			if o.Edited {
				return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "either value or transform: not both")
			}
			value, err := a.transformed(ctx, in.ID, in.Body.Transform)
			if err != nil {
				return nil, err
			}
			o.Value, o.Edited = value, true
		}
	}
	l, err := a.Replayer.Run(ctx, in.ID, o)
	if err != nil {
		a.Metrics.Failed()
		return nil, err
	}
	a.Metrics.Replayed(l.Status)
	return a.changed(ctx, l), nil
}

// transformed returns what a program makes of a letter.
func (a *API) transformed(ctx context.Context, id uuid.UUID, source string) ([]byte, error) {
	program, err := transform.Compile(source)
	if err != nil {
		return nil, err
	}
	l, _, _, err := a.Store.Letter(ctx, id)
	if err != nil {
		return nil, err
	}
	return replay.Transformed(ctx, program, l)
}

type reasonRequest struct {
	ID   uuid.UUID `path:"id" format:"uuid" doc:"ID of the letter" example:"0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11"`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
	}
}

func (a *API) discard(ctx context.Context, in *reasonRequest) (*letterAnswer, error) {
	return a.change(ctx, in, letter.ActionDiscard, letter.State.Discard)
}

func (a *API) restore(ctx context.Context, in *reasonRequest) (*letterAnswer, error) {
	return a.change(ctx, in, letter.ActionRestore, letter.State.Restore)
}

func (a *API) change(ctx context.Context, in *reasonRequest, action letter.Action, step func(letter.State) (letter.State, error)) (*letterAnswer, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	l, err := a.Store.Transition(ctx, in.ID, letter.Change{
		Who: who(ctx), Action: action, Reason: reason, Apply: func(l letter.Stored) (letter.State, error) { return step(l.State) },
	})
	if err != nil {
		return nil, err
	}
	return a.changed(ctx, l), nil
}

// changed answers a change that was made. If the letter cannot be read back, the answer has what is known of it: an error would mean
// that the change was not made.
func (a *API) changed(ctx context.Context, l letter.Stored) *letterAnswer {
	answer, err := a.show(ctx, &letterRequest{l.ID})
	if err != nil {
		a.Log.WarnContext(ctx, "could not read a letter back after its change", "letter_id", l.ID, "err", err)
		return &letterAnswer{bodyOf(l, nil, nil)}
	}
	return answer
}
