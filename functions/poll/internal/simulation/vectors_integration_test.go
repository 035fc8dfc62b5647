//go:build integration

package simulation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/postgres"
)

// topic keeps what is published.
type topic struct {
	mu      sync.Mutex
	records []kafkaclient.Record
}

func (p *topic) Produce(_ context.Context, r kafkaclient.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, r)
	return nil
}

// Averages of bars are those that the regression tests of TA-Lib and Tulip Indicators have for the same closes, from StoreBars to
// /averages/history. TA-Lib's are completed by exact arithmetic: its own are cut to two decimals.
func TestAveragesOfBarsAreThoseOfTheLibraries(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	talib, err := os.ReadFile("testdata/talib_close252.txt")
	require.NoError(t, err)
	s.store(t, "TALIB", strings.Split(strings.TrimSpace(string(talib)), ","))
	s.store(t, "TULIP", strings.Fields("81.59 81.06 82.87 83.00 83.61 83.15 82.84 83.99 84.55 84.36 85.53 86.54 86.89 87.77 87.29"))
	for name, c := range map[string]struct {
		symbol, kind string
		window       int
		places       int
		want         map[int]string // by index, from the end if negative
	}{
		"talib sma 2":  {"TALIB", "sma", 2, 4, map[int]string{0: "93.1575", 1: "94.5950", 2: "94.7350", -1: "108.3100"}},
		"talib sma 5":  {"TALIB", "sma", 5, 3, map[int]string{0: "93.913", -1: "109.036"}},
		"talib sma 30": {"TALIB", "sma", 30, 4, map[int]string{0: "90.4263", 1: "90.2180", 2: "89.9617", 29: "87.1217", 221: "107.9530", 222: "108.4237"}},
		"talib wma 30": {"TALIB", "wma", 30, 4, map[int]string{0: "88.5677", 1: "88.2338", 2: "88.0342", 29: "87.1912"}},
		"talib ema 10": {"TALIB", "ema", 10, 4, map[int]string{0: "93.2255", 1: "93.7527", 20: "86.4637", 242: "108.9752"}},
		"tulip sma 5": {"TULIP", "sma", 5, 3, map[int]string{
			0: "82.426", 1: "82.738", 2: "83.094", 3: "83.318", 4: "83.628", 5: "83.778", 6: "84.254", 7: "84.994", 8: "85.574", 9: "86.218", 10: "86.804",
		}},
		"tulip wma 5": {"TULIP", "wma", 5, 3, map[int]string{
			0: "82.825", 1: "83.066", 2: "83.100", 3: "83.399", 4: "83.809", 5: "84.053", 6: "84.637", 7: "85.399", 8: "86.031", 9: "86.763", 10: "87.121",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := s.history(t, c.symbol, c.kind, c.window)
			for i, want := range c.want {
				if i < 0 {
					i += len(got)
				}
				require.Equal(t, want, rational(got[i]).FloatString(c.places), "index %d", i)
			}
		})
	}
}

// store stores closes as bars of consecutive days, and delivers their events.
func (s *stage) store(t *testing.T, symbol market.Symbol, closes []string) {
	t.Helper()
	pool, err := postgres.Open(t.Context(), s.url)
	require.NoError(t, err)
	defer pool.Close()
	bars := ingest.Bars{Symbol: symbol, Series: "yfinance-1d", Response: market.Response{Status: http.StatusOK, Body: []byte("{}"), ReceivedAt: time.Now()}}
	for i, text := range closes {
		price, err := market.ParsePrice(text)
		require.NoError(t, err)
		bars.Bars = append(bars.Bars, market.Bar{Start: time.Date(2000, 1, 1+i, 0, 0, 0, 0, time.UTC), Close: price, Final: true})
	}
	var published topic
	in := ingest.New(pool, &published, "price-events", nil, slog.New(slog.DiscardHandler))
	require.NoError(t, in.StoreBars(t.Context(), bars, func(context.Context, pgx.Tx) (uuid.UUID, error) { return uuid.NewV7() }))
	in.Close()
	require.Len(t, published.records, len(closes))
	s.deliver <- published.records
	require.NoError(t, <-s.delivered)
}

func (s *stage) history(t *testing.T, symbol, kind string, window int) (averages []json.Number) {
	t.Helper()
	resp, err := s.client.Get(fmt.Sprintf("http://%s/averages/history?symbol=%s&provider=yfinance-1d&kind=%s&window=%d", s.address, symbol, kind, window))
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	var body struct {
		Averages []struct{ Average json.Number }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
	require.NotEmpty(t, body.Averages)
	for _, a := range body.Averages {
		averages = append(averages, a.Average)
	}
	return averages
}
