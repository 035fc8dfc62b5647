package averages_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/fault"
)

func nextPage(t *testing.T, w *httptest.ResponseRecorder) (token string) {
	t.Helper()
	var page struct {
		Next *string `json:"next_page_token"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
	if page.Next != nil {
		token = *page.Next
	}
	return token
}

// No point is lost or used twice between two pages, if the next is a microsecond away; a page that is full to the last average is the last.
func TestPagesOfAdjacentPoints(t *testing.T) {
	t.Parallel()
	b := setup()
	for at := range int64(7) {
		b.store.history = append(b.store.history, series.Point{At: at, Price: value(t, fmt.Sprint(at*at+1))})
	}
	average := regexp.MustCompile(`"average":[0-9.]+`)
	for _, kind := range []string{"sma", "wma", "ema"} {
		query := "/averages/history?symbol=A&window=2&kind=" + kind
		w := b.get(query + "&limit=6")
		require.Empty(t, nextPage(t, w))
		require.NotContains(t, w.Body.String(), "underlying", "nobody asked for them")
		whole := average.FindAllString(w.Body.String(), -1)
		require.Len(t, whole, 6)
		require.Equal(t, map[string]string{"sma": "3.5", "wma": "4", "ema": "3.833333333333"}[kind], strings.TrimPrefix(whole[1], `"average":`))
		first := b.get(query + "&limit=2")
		var joined []string
		for token, more := "", true; more; more = token != "" {
			w := b.get(query + "&limit=2&page_token=" + token)
			joined = append(joined, average.FindAllString(w.Body.String(), -1)...)
			token = nextPage(t, w)
		}
		require.Equal(t, whole, joined, kind)
		require.Contains(t, b.get(query+"&start=2024-01-01").Body.String(), `"averages":[]`)
		b.store.err = fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
		require.Equal(t, 503, b.get(query+"&limit=2&page_token="+nextPage(t, first)).Code)
		b.store.err = nil
	}
	b.store.history = []series.Point{{At: 1, Price: value(t, "1.000000000000000001")}, {At: 2, Price: value(t, "1")}}
	require.Contains(t, b.get("/averages/history?symbol=A&window=2").Body.String(), `"average":1.0000000000000000005}`, "exact")
}

// Events have half of the CPUs: a history that waits for its turn for too long is refused.
func TestHistoriesWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup()
		b.store.gate = make(chan struct{})
		for range max(runtime.GOMAXPROCS(0)/2, 1) {
			go b.get("/averages/history?symbol=A")
		}
		synctest.Wait()
		w := b.get("/averages/history?symbol=A")
		require.Equal(t, 503, w.Code)
		require.Contains(t, w.Body.String(), `"code":"overloaded"`)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		close(b.store.gate)
		synctest.Wait()
		require.Equal(t, 200, b.get("/averages/history?symbol=A").Code)
	})
}
