//go:build integration

package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
)

func (b bundle) backfill(t *testing.T, body string, header ...string) string {
	t.Helper()
	w := b.do(http.MethodPost, "/prices/backfill", body, header...)
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	var v struct {
		BackfillID string `json:"backfill_id"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	require.Equal(t, "/prices/backfill/"+v.BackfillID, w.Header().Get("Location"))
	return v.BackfillID
}

// progress returns the backfill that a request answers with.
func (b bundle) progress(t *testing.T, method, path string) (v backfillBody) {
	t.Helper()
	w := b.do(method, "/prices/backfill/"+path, "")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

func TestStatesOfABackfill(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ set, state, status, code string }{
		"a split":            {"update bar_series set generation = 1", "adjusting", "active", ""},
		"it is covered":      {"update backfill_series set complete = true", "following", "active", ""},
		"it is done":         {"update backfill_series set done = true", "complete", "complete", ""},
		"done while paused":  {"update backfill_series set done = true, paused = true", "complete", "complete", ""},
		"its provider fails": {"update backfill_series set failures = 3, last_code = 'provider_timeout'", "filling", "active", "provider_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.backfill(t, `{"symbols":["AAPL"],"interval":"1d","start":"2020-01-01"}`)
			b.Exec(t, c.set)
			v := b.progress(t, http.MethodGet, id)
			require.Equal(t, c.status, v.Status)
			require.Equal(t, c.state, v.Series[0].State)
			require.Equal(t, c.code, v.Series[0].Error)
			require.Equal(t, c.code != "", v.Series[0].Failures == 3)
			require.Equal(t, c.state == "complete", v.Series[0].NextAt == nil)
		})
	}
}

func TestBackfillRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const body = `{"symbols":["aapl","MSFT","AAPL"],"interval":"1d","start":"2020-01-01"}`
	w := b.do(http.MethodPost, "/prices/backfill", body)
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Contains(t, w.Body.String(),
		`"status":"accepted","config":{"symbols":["AAPL","MSFT"],"provider":"yfinance","interval":"1d","start":"2020-01-01T00:00:00Z","end":null}`)
	require.Equal(t, 1, *b.kicks)
	first := b.backfill(t, `{"symbols":["AAPL"],"interval":"1d","start":"2020-01-01","end":"2021-01-01","provider":"yfinance"}`, "Idempotency-Key", "k")
	require.Equal(t, first, b.backfill(t, `{"symbols":["AAPL"],"interval":"1d","start":"2020-01-01","end":"2021-01-01"}`, "Idempotency-Key", "k"))
	conflict := b.do(http.MethodPost, "/prices/backfill", body, "Idempotency-Key", "k")
	require.Equal(t, http.StatusConflict, conflict.Code)
	require.Contains(t, conflict.Body.String(), "idempotency_conflict")

	v := b.progress(t, http.MethodGet, first)
	require.Equal(t, "active", v.Status)
	require.Equal(t, "2021-01-01T00:00:00Z", v.Config.End.Format(time.RFC3339))
	require.Len(t, v.Series, 1)
	require.Equal(t, "filling", v.Series[0].State)
	require.Nil(t, v.Series[0].From)
	require.NotNil(t, v.Series[0].NextAt)
	require.Equal(t, "paused", b.progress(t, http.MethodPost, first+"/pause").Status)
	require.Equal(t, "active", b.progress(t, http.MethodPost, first+"/resume").Status)
	list := b.do(http.MethodGet, "/prices/backfill?limit=1", "")
	var page struct {
		Backfills []backfillBody
		Next      *string `json:"next_page_token"`
	}
	require.NoError(t, json.Unmarshal(list.Body.Bytes(), &page))
	require.Len(t, page.Backfills, 1)
	require.NotNil(t, page.Next)
	list = b.do(http.MethodGet, "/prices/backfill?limit=1&page_token="+url.QueryEscape(*page.Next), "")
	require.NoError(t, json.Unmarshal(list.Body.Bytes(), &page))
	require.Equal(t, first, page.Backfills[0].BackfillID)
	require.Nil(t, page.Next)

	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, "/prices/backfill/"+first, "").Code)
	for _, gone := range []string{http.MethodGet + " ", http.MethodPost + " /pause", http.MethodDelete + " "} {
		method, below, _ := strings.Cut(gone, " ")
		w := b.do(method, "/prices/backfill/"+first+below, "")
		require.Equal(t, http.StatusNotFound, w.Code)
		require.Contains(t, w.Body.String(), "backfill_not_found")
	}
}

func TestBackfillsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct{ body, code, says string }{
		"a provider without a history": {`{"symbols":["A"],"interval":"1d","start":"2020-01-01","provider":"finnhub"}`, "no_history", "finnhub has no history; these have: yfinance (1d)"},
		"not of that interval":         {`{"symbols":["A"],"interval":"1h","start":"2020-01-01"}`, "no_history", "yfinance has no bars of 1h; it has 1d"},
		"nobody's provider":            {`{"symbols":["A"],"interval":"1d","start":"2020-01-01","provider":"x"}`, "unknown_provider", ""},
		"auto":                         {`{"symbols":["A"],"interval":"1d","start":"2020-01-01","provider":"auto"}`, "unknown_provider", ""},
		"no such interval":             {`{"symbols":["A"],"interval":"2d","start":"2020-01-01"}`, "invalid_parameter", ""},
		"no interval":                  {`{"symbols":["A"],"start":"2020-01-01"}`, "invalid_parameter", ""},
		"no start":                     {`{"symbols":["A"],"interval":"1d"}`, "invalid_parameter", ""},
		"a start in the future":        {`{"symbols":["A"],"interval":"1d","start":"2999-01-01"}`, "invalid_parameter", "start must be in the past"},
		"no symbols":                   {`{"symbols":[],"interval":"1d","start":"2020-01-01"}`, "invalid_parameter", ""},
		"no symbol":                    {`{"symbols":["A B"],"interval":"1d","start":"2020-01-01"}`, "invalid_symbol", ""},
		"an unknown member":            {`{"symbols":["A"],"interval":"1d","start":"2020-01-01","x":1}`, "invalid_parameter", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := b.do(http.MethodPost, "/prices/backfill", c.body)
			require.Equal(t, http.StatusBadRequest, w.Code, w.Body.String())
			require.Contains(t, w.Body.String(), `"code":"`+c.code+`"`)
			require.Contains(t, w.Body.String(), c.says)
		})
	}
	w := b.do(http.MethodGet, "/prices/backfill?page_token="+api.Token((&backfillsRequest{}).query(), "poll_x"), "")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Zero(t, b.Count(t, "select count(*) from backfills"))
}
