package averages_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
)

// A series of bars that is adjusting says so; one of quotes is not looked up.
func TestAdjusting(t *testing.T) {
	t.Parallel()
	b := setup()
	b.store.adjusting = true
	b.store.average = series.Average{Window: 5, Mean: value(t, "1.5"), PointsUsed: 5, AsOf: 9, Oldest: 4}
	for at := range int64(8) {
		b.store.history = append(b.store.history, series.Point{At: at, Price: value(t, "1.5")})
	}
	for query, c := range map[string]struct {
		checked []int64 // the range of the points used
		says    bool
	}{
		"latest?symbol=A&provider=yfinance-1d":                                             {[]int64{4, 9}, true},
		"latest?symbol=A&provider=yfinance":                                                {nil, false},
		"history?symbol=A&provider=yfinance-1d&window=2":                                   {[]int64{0, 7}, true},
		"history?symbol=A&provider=yfinance-1d&window=1&start=1970-01-01T00:00:00.000007Z": {[]int64{7, 7}, true},
		"history?symbol=A&provider=yfinance-1d&window=2&limit=3":                           {[]int64{0, 4}, true},
		"history?symbol=A&provider=yfinance-1d&window=2&kind=ema&limit=3":                  {[]int64{0, 4}, true},
		"history?symbol=A&provider=yfinance&window=2":                                      {nil, false},
	} {
		b.store.checked = nil
		w := b.get("/averages/" + query)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Equal(t, c.checked, b.store.checked, query)
		require.Equal(t, c.says, strings.Contains(w.Body.String(), `"adjusting":true`), "%s: %s", query, w.Body)
	}
	// The second page reaches back by a window, or, if it is of an ema, to the beginning of the range.
	for query, want := range map[string][]int64{"kind=sma": {2, 5}, "kind=ema": {0, 5}, "kind=ema&start=1970-01-01T00:00:00.000001Z": {1, 6}} {
		query = "/averages/history?symbol=A&provider=yfinance-1d&window=2&limit=2&" + query
		b.store.checked = nil
		require.Equal(t, 200, b.get(query+"&page_token="+nextPage(t, b.get(query))).Code)
		require.Equal(t, want, b.store.checked[2:], query)
	}

	b.store.adjusting = false
	require.NotContains(t, b.get("/averages/latest?symbol=A&provider=yfinance-1d").Body.String(), "adjusting")
	for _, query := range []string{"latest?symbol=A&provider=yfinance-1d", "history?symbol=A&provider=yfinance-1d"} {
		b.store.adjustingErr = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
		require.Equal(t, 503, b.get("/averages/"+query).Code, query)
		b.store.adjustingErr, b.store.err = nil, b.store.adjustingErr
		require.Equal(t, 503, b.get("/averages/"+query).Code, query)
		b.store.err = nil
	}
}
