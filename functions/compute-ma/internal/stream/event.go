package stream

import (
	"encoding/json"
	"fmt"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
)

// Series is the data of an event, as clients see it.
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

// encode returns a state as JSON, and as an event. Two events with one id have the same state. It fails for a time beyond the year 9999.
func encode(s series.State) (data, event []byte, err error) {
	out := Series{
		Symbol: s.Symbol, Provider: s.Provider, Price: api.Number(s.Price.String()), AsOf: time.UnixMicro(s.AsOf).UTC(),
		Averages: make([]SeriesAverage, len(s.Averages)),
	}
	for i, a := range s.Averages {
		out.Averages[i] = SeriesAverage{a.Window, api.Number(a.Mean.String()), a.PointsUsed, a.Complete()}
	}
	if data, err = json.Marshal(out); err != nil {
		return nil, nil, fmt.Errorf("encode %s of %s: %w", s.Symbol, s.Provider, err)
	}
	return data, fmt.Appendf(nil, "event: series\nid: %s:%s:%s\ndata: %s\n\n", s.Provider, s.Symbol, s.Version, data), nil
}
