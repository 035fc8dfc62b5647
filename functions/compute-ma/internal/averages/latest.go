package averages

import (
	"context"
	"fmt"
	"slices"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/market"
)

type latestQuery struct {
	Symbol   string `query:"symbol" required:"true" doc:"Instrument, such as AAPL: 1 to 32 of A-Z 0-9 . - ^ = / : _ & +; lower case is converted to upper case" example:"AAPL"`
	Provider string `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent; bars have the provider and the interval, as in yfinance-1d" example:"yfinance"`
	Window   int    `query:"window" default:"5" minimum:"1" maximum:"500" doc:"Points in the window. Averages of MA_WINDOWS are stored; others are computed from the points" example:"5"`
}

type latestAnswer struct{ Body Average }

// Average is an average as callers see it.
type Average struct {
	Symbol     string     `json:"symbol" example:"AAPL"`
	Provider   string     `json:"provider" example:"yfinance"`
	Window     int        `json:"window" doc:"Points in the window" example:"5"`
	Average    api.Number `json:"average" doc:"Exact mean of the points used"`
	PointsUsed int        `json:"points_used" doc:"Fewer than window until the series has that many points"`
	Complete   bool       `json:"complete" doc:"Whether points_used equals window"`
	AsOf       time.Time  `json:"as_of" doc:"Observation time of the newest point used"`
	Oldest     time.Time  `json:"oldest" doc:"Observation time of the oldest point used"`
	Computed   bool       `json:"computed,omitempty" doc:"True if the window is not one of MA_WINDOWS, so that the average was computed for this answer; otherwise absent"`
	Adjusting  bool       `json:"adjusting,omitempty" doc:"Only for bars, and only if true: after a split, the series is being fetched again, and closes before and after the split may be in different shares"`
}

// Describe returns the average of a series as callers see it.
func Describe(k series.Key, a series.Average) Average {
	return Average{
		Symbol: k.Symbol, Provider: k.Provider, Window: a.Window, Average: api.Number(a.Mean.String()), PointsUsed: a.PointsUsed,
		Complete: a.Complete(), AsOf: utc(a.AsOf), Oldest: utc(a.Oldest),
	}
}

func utc(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

func (a *API) latest(ctx context.Context, in *latestQuery) (*latestAnswer, error) {
	k, err := a.parseSeries(in.Symbol, in.Provider)
	if err != nil {
		return nil, err
	}
	computed := !slices.Contains(a.Windows, in.Window)
	ctx, cancel := context.WithTimeout(ctx, store.ReadTimeout)
	defer cancel()
	var average series.Average
	adjusting, err := a.watch(ctx, k, func(a *API) (first, last int64, err error) {
		read := a.Reads.LatestAverage
		if computed {
			read = a.Reads.ComputeAverage
		}
		average, err = read(ctx, k, in.Window)
		return average.Oldest, average.AsOf, err
	})
	if err != nil {
		return nil, fmt.Errorf("latest average: %w", err)
	}
	out := &latestAnswer{Describe(k, average)}
	out.Body.Computed, out.Body.Adjusting = computed, adjusting
	return out, nil
}

func (a *API) parseSeries(symbol, provider string) (series.Key, error) {
	if provider == "" {
		provider = a.DefaultProvider
	}
	s, err := market.ParseSymbol(symbol)
	if err != nil {
		return series.Key{}, err
	}
	p, err := market.ParseProvider(provider)
	return series.Key{Symbol: string(s), Provider: p}, err
}
