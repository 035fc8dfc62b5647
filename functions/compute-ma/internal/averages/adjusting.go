package averages

import (
	"context"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/market"
)

// Stored returns the Reader of what is stored.
func Stored(r *store.Reader) Reader { return stored{r} }

type stored struct{ *store.Reader }

// Snapshot implements [Reader].
func (s stored) Snapshot(ctx context.Context, f func(Reader) error) error {
	return s.Reader.Snapshot(ctx, func(r *store.Reader) error { return f(stored{r}) })
}

// watch calls read, which returns the first and the last of the points that it uses, and reports whether they are adjusting: a split makes
// poll fetch the history of a series of bars again, and meanwhile its points are in different shares. Points and report are of the same
// instant. Quotes are never adjusted, and cost nothing here.
func (a *API) watch(ctx context.Context, k series.Key, read func(*API) (first, last int64, err error)) (adjusting bool, err error) {
	if _, _, ok := market.ParseBarSeries(k.Provider); !ok {
		_, _, err := read(a)
		return false, err
	}
	err = a.Reads.Snapshot(ctx, func(reads Reader) error {
		frozen := *a
		frozen.Reads = reads
		first, last, err := read(&frozen)
		if err != nil {
			return err
		}
		adjusting, err = reads.Adjusting(ctx, k, first, last)
		return err
	})
	return adjusting, err
}
