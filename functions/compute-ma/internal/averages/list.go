package averages

import (
	"context"
	"fmt"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
)

// Series is the newest price of a series and its averages, as callers see them.
type Series struct {
	Symbol   string          `json:"symbol" example:"AAPL"`
	Provider string          `json:"provider" example:"yfinance"`
	Price    api.Number      `json:"price" doc:"Price of the newest point"`
	AsOf     time.Time       `json:"as_of" doc:"Observation time of the newest point"`
	Averages []SeriesAverage `json:"averages" doc:"One for each stored window"`
}

// SeriesAverage is one average of a series.
type SeriesAverage struct {
	Window     int        `json:"window" doc:"Points in the window" example:"5"`
	Average    api.Number `json:"average" doc:"Exact mean of the points used"`
	PointsUsed int        `json:"points_used" doc:"Fewer than window until the series has that many points"`
	Complete   bool       `json:"complete" doc:"Whether points_used equals window"`
}

// DescribeSeries returns a state as callers see it.
func DescribeSeries(s series.State) Series {
	out := Series{Symbol: s.Symbol, Provider: s.Provider, Price: api.Number(s.Price.String()), AsOf: utc(s.AsOf), Averages: make([]SeriesAverage, len(s.Averages))}
	for i, a := range s.Averages {
		out.Averages[i] = SeriesAverage{a.Window, api.Number(a.Mean.String()), a.PointsUsed, a.Complete()}
	}
	return out
}

type seriesQuery struct{ api.Paging }

type listedSeries struct {
	Series
	Adjusting bool `json:"adjusting,omitempty" doc:"Only for bars, and only if true: after a split, the series is being fetched again, and closes before and after the split may be in different shares"`
}

type seriesAnswer struct {
	Body struct {
		Series []listedSeries `json:"series" doc:"By symbol and provider. A page may have fewer than limit"`
		api.Next
	}
}

// allSeries is the one list that page tokens belong to.
var allSeries = api.QueryOf("series")

// list answers with the state of every series that has a point. Series that are added meanwhile neither shift nor repeat others.
func (a *API) list(ctx context.Context, in *seriesQuery) (*seriesAnswer, error) {
	after, err := api.ReadToken[series.Key](allSeries, in.PageToken)
	if err != nil {
		return nil, err
	}
	if after == nil {
		after = &series.Key{}
	}
	ctx, cancel := context.WithTimeout(ctx, store.ReadTimeout)
	defer cancel()
	all, last, more, err := a.Reads.Series(ctx, *after, in.Limit)
	if err != nil {
		return nil, fmt.Errorf("list series: %w", err)
	}
	out := &seriesAnswer{}
	out.Body.Series = make([]listedSeries, len(all))
	for i, s := range all {
		out.Body.Series[i] = listedSeries{DescribeSeries(s.State), s.Adjusting}
	}
	if more {
		token := api.Token(allSeries, last)
		out.Body.NextPageToken = &token
	}
	return out, nil
}
