package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/trace"
)

const (
	storeBarsWait = 10 * time.Second // for the transaction of an answer with bars
	barsAtOnce    = 1000             // outbox rows in one statement, which bounds its memory
)

// Bars are closes from one answer of a provider.
type Bars struct {
	Symbol   market.Symbol
	Series   string // in place of the provider's name, see [market.BarSeries]
	Bars     []market.Bar
	Response market.Response
}

// Historian returns the provider's history, nil if it has none.
func (in *Ingester) Historian(provider string) market.Historian {
	h, _ := in.providers[provider].(market.Historian)
	return h
}

// ReserveSpare is [Ingester.Reserve] for a call of [Ingester.FetchBars], which leaves room for quotes.
func (in *Ingester) ReserveSpare(ctx context.Context, provider string) error {
	if in.budget == nil {
		return nil
	}
	return in.budget.TakeSpare(ctx, provider)
}

// FetchBars makes a reserved call, see [market.Historian]. It stores nothing.
func (in *Ingester) FetchBars(
	ctx context.Context, provider string, symbol market.Symbol, interval market.Interval, from, to time.Time,
) (market.History, market.Response, error) {
	h := in.Historian(provider)
	if h == nil {
		return market.History{}, market.Response{}, fault.New(fault.Invalid, fault.CodeNoHistory, "%s has no history", provider)
	}
	history, response, err := h.Bars(ctx, symbol, interval, from, to)
	in.called(provider, err)
	if err != nil {
		return market.History{}, market.Response{}, fmt.Errorf("fetch bars of %s from %s: %w", symbol, provider, err)
	}
	return history, response, nil
}

// StoreBars stores the raw response of bars, one outbox row for each bar, and the caller's progress in one transaction, then publishes
// the events. Without bars it stores the progress alone. progress returns the id of the raw response; its error rolls everything
// back, and is returned unchanged if it is a fault. The other errors are provider_malformed (Unavailable; nothing is stored) and
// storage_unavailable (Unavailable; the commit may have happened). StoreBars returns once every event is on its way, or ctx ends: the
// sweep publishes what is left.
func (in *Ingester) StoreBars(ctx context.Context, b Bars, progress func(ctx context.Context, tx pgx.Tx) (uuid.UUID, error)) (err error) {
	ctx, span := trace.Start(ctx, trace.Internal, "store bars", "")
	defer func() { span.End(err) }()
	span.Text("marketdata.symbol", string(b.Symbol))
	span.Text("marketdata.series", b.Series)
	span.Int("marketdata.items", len(b.Bars))
	now := in.now()
	for _, bar := range b.Bars {
		if err := b.observation(bar, uuid.Nil).Validate(now); err != nil {
			return fault.Wrap(err, fault.Unavailable, fault.CodeProviderMalformed, "the provider's bars are not usable")
		}
	}
	var id uuid.UUID
	var rowIDs []int64
	err = postgres.Retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, storeBarsWait)
		defer cancel()
		rowIDs = rowIDs[:0]
		return pgx.BeginFunc(ctx, in.pool, func(tx pgx.Tx) (err error) {
			if _, err := tx.Exec(ctx, postgres.Guard(storeWait)); err != nil {
				return err
			}
			if id, err = progress(ctx, tx); err != nil || len(b.Bars) == 0 {
				return err
			}
			rowIDs, err = in.storeBarsTx(ctx, tx, b, id, rowIDs)
			return err
		})
	})
	if _, ok := fault.As(err); ok {
		return err
	}
	if err != nil {
		return storageError(fmt.Errorf("store bars: %w", err))
	}
	in.publishBars(ctx, b, id, rowIDs)
	return nil
}

func (b Bars) observation(bar market.Bar, id uuid.UUID) priceevent.Observation {
	return priceevent.Observation{Symbol: b.Symbol, Provider: b.Series, Price: bar.Close, ObservedAt: bar.Start, RawResponseID: id}
}

const (
	storeRaw  = `insert into raw_responses (id, provider, symbol, status, body, received_at) values ($1::uuid, $2, $3, $4, $5, $6)`
	storeRows = `
		insert into outbox (topic, key, value, headers, next_attempt_at)
		select $1, $2, value, headers::jsonb, now() + interval '10 seconds'
		from unnest($3::bytea[], $4::text[]) with ordinality as o (value, headers, n)
		order by n
		returning id`
)

// storeBarsTx adds the ids of the outbox rows, in the order of the bars, to rowIDs.
func (in *Ingester) storeBarsTx(ctx context.Context, tx pgx.Tx, b Bars, id uuid.UUID, rowIDs []int64) ([]int64, error) {
	if _, err := tx.Exec(ctx, storeRaw, id.String(), b.Series, string(b.Symbol), b.Response.Status, b.Response.Body, b.Response.ReceivedAt); err != nil {
		return nil, err
	}
	for at := 0; at < len(b.Bars); at += barsAtOnce {
		var values [][]byte
		var headers []string
		for _, bar := range b.Bars[at:min(at+barsAtOnce, len(b.Bars))] {
			record, err := in.record(ctx, b.observation(bar, id))
			if err != nil {
				return nil, err
			}
			text, err := json.Marshal(headerMap(record.Headers))
			if err != nil {
				return nil, fmt.Errorf("encode headers: %w", err)
			}
			values, headers = append(values, record.Value), append(headers, string(text))
		}
		rows, err := tx.Query(ctx, storeRows, in.topic, []byte(b.Symbol), values, headers)
		if err != nil {
			return nil, err
		}
		if rowIDs, err = pgx.AppendRows(rowIDs, rows, pgx.RowTo[int64]); err != nil {
			return nil, err
		}
	}
	slices.Sort(rowIDs) // ids rise in the order of the rows; that of the answer is not promised
	return rowIDs, nil
}

// publishBars publishes events as slots become free. Once one fails, the rest is left to the sweep: the broker does not answer, and each
// would wait for it.
func (in *Ingester) publishBars(ctx context.Context, b Bars, id uuid.UUID, rowIDs []int64) {
	detached := context.WithoutCancel(ctx)
	var failed atomic.Bool
	for i, rowID := range rowIDs {
		select {
		case in.publishingBars <- struct{}{}:
		case <-ctx.Done():
			in.leave(ctx, b, len(rowIDs)-i)
			return
		}
		if failed.Load() {
			<-in.publishingBars
			in.leave(ctx, b, len(rowIDs)-i)
			return
		}
		go func() {
			defer func() { <-in.publishingBars }()
			record, err := in.record(detached, b.observation(b.Bars[i], id))
			if err == nil {
				err = in.publishOnce(detached, rowID, record)
			}
			if err != nil {
				failed.Store(true)
			}
		}()
	}
}

func (in *Ingester) leave(ctx context.Context, b Bars, events int) {
	in.log.WarnContext(ctx, "events left to the outbox sweep", "symbol", b.Symbol, "series", b.Series, "events", events)
}
