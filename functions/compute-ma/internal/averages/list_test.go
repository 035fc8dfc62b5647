package averages_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/fault"
)

func TestListOfSeries(t *testing.T) {
	t.Parallel()
	b := setup()
	for _, k := range []series.Key{{Symbol: "A", Provider: "p"}, {Symbol: "A", Provider: "p-1d"}, {Symbol: "B", Provider: "p"}} {
		state := series.State{Key: k, Price: value(t, "100000000000000000.1"), AsOf: 1e6}
		state.Averages = []series.Average{{Window: 5, PointsUsed: 3, Mean: value(t, "1.05"), AsOf: 1e6}}
		b.store.listed = append(b.store.listed, store.Listed{State: state, Adjusting: k.Provider == "p-1d"})
	}
	var token string
	for page, want := range []string{
		`[{"symbol":"A","provider":"p","price":100000000000000000.1,"as_of":"1970-01-01T00:00:01Z","averages":[{"window":5,"average":1.05,"points_used":3,"complete":false}]},
		  {"symbol":"A","provider":"p-1d","price":100000000000000000.1,"as_of":"1970-01-01T00:00:01Z","averages":[{"window":5,"average":1.05,"points_used":3,"complete":false}],"adjusting":true}]`,
		`[{"symbol":"B","provider":"p","price":100000000000000000.1,"as_of":"1970-01-01T00:00:01Z","averages":[{"window":5,"average":1.05,"points_used":3,"complete":false}]}]`,
	} {
		w := b.get("/averages/series?limit=2" + token)
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		var body struct {
			Series        json.RawMessage
			NextPageToken *string `json:"next_page_token"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.JSONEq(t, want, string(body.Series))
		require.Contains(t, w.Body.String(), `"price":100000000000000000.1`, "every digit")
		require.Equal(t, page == 0, body.NextPageToken != nil)
		if body.NextPageToken != nil {
			token = "&page_token=" + *body.NextPageToken
		}
	}
	require.JSONEq(t, `{"series":[],"next_page_token":null}`, setup().get("/averages/series").Body.String(), "no series yet")
	require.Equal(t, http.StatusBadRequest, b.get("/averages/series?page_token=AAAA").Code)
	require.Equal(t, http.StatusBadRequest, b.get("/averages/series?limit=1001").Code)
	b.store.err = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "try later")
	require.Equal(t, http.StatusServiceUnavailable, b.get("/averages/series").Code)
}
