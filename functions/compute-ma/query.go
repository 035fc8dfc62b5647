package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/service"
)

type reader interface {
	latestAverage(ctx context.Context, k seriesKey, window int) (series.Average, error)
	points(ctx context.Context, k seriesKey, r timeRange, limit int) ([]series.Point, error)
	pointsBefore(ctx context.Context, k seriesKey, r timeRange, limit int) ([]series.Point, error)
}

type averageQuery struct {
	Symbol   string `query:"symbol" required:"true" doc:"Instrument, such as AAPL"`
	Provider string `query:"provider" doc:"Provider of the series, DEFAULT_PROVIDER if absent"`
	Window   int    `query:"window" default:"5" doc:"Points in the window; one of MA_WINDOWS"`
}

type averageAnswer struct{ Body averageBody }

type averageBody struct {
	Symbol     string         `json:"symbol" example:"AAPL"`
	Provider   string         `json:"provider" example:"yfinance"`
	Window     int            `json:"window" doc:"Points in the window" example:"5"`
	Average    service.Number `json:"average" doc:"Exact mean of the points used"`
	PointsUsed int            `json:"points_used" doc:"Fewer than window until the series has that many points"`
	Complete   bool           `json:"complete" doc:"Whether points_used equals window"`
	AsOf       time.Time      `json:"as_of" doc:"Observation time of the newest point used"`
	Oldest     time.Time      `json:"oldest" doc:"Observation time of the oldest point used"`
}

func bodyOf(symbol, provider string, a series.Average) averageBody {
	return averageBody{
		Symbol: symbol, Provider: provider, Window: a.Window, Average: service.Number(a.Mean.String()), PointsUsed: a.PointsUsed,
		Complete: a.Complete(), AsOf: utc(a.AsOf), Oldest: utc(a.Oldest),
	}
}

func utc(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

func (h *handler) latestAverage(ctx context.Context, in *averageQuery) (*averageAnswer, error) {
	k, err := h.parseSeries(in.Symbol, in.Provider)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(h.windows, in.Window) {
		known := strings.Trim(strings.ReplaceAll(fmt.Sprint(h.windows), " ", ", "), "[]")
		return nil, fault.New(fault.Invalid, "invalid_parameter", "window must be one of %s", known)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	a, err := h.reads.latestAverage(ctx, k, in.Window)
	if err != nil {
		return nil, fmt.Errorf("latest average: %w", err)
	}
	return &averageAnswer{bodyOf(k.symbol, k.provider, a)}, nil
}

func (h *handler) parseSeries(symbol, provider string) (seriesKey, error) {
	if provider == "" {
		provider = h.defaultProvider
	}
	s, err := market.ParseSymbol(symbol)
	if err != nil {
		return seriesKey{}, err
	}
	p, err := market.ParseProvider(provider)
	return seriesKey{string(s), p}, err
}
