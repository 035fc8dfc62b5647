package stream

import (
	"encoding/json"
	"fmt"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/series"
)

// encode returns a state as JSON, and as an event. Two events with one id have the same state. It fails for a time beyond the year 9999.
func encode(s series.State) (data, event []byte, err error) {
	if data, err = json.Marshal(averages.DescribeSeries(s)); err != nil {
		return nil, nil, fmt.Errorf("encode %s of %s: %w", s.Symbol, s.Provider, err)
	}
	return data, fmt.Appendf(nil, "event: series\nid: %s:%s:%s\ndata: %s\n\n", s.Provider, s.Symbol, s.Version, data), nil
}
