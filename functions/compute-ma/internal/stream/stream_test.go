package stream_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/ratelimit"
	"marketdata/shared/testenv/apidoc"
	"marketdata/shared/testenv/call"
)

// A stream sends the state of each series, then the changes, then it ends by itself.
func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 40*time.Second)
		b.states.set(t, "AAPL", 0)
		began := time.Now()
		c := b.open(t, "aapl,MSFT,AAPL")
		require.Equal(t, http.StatusOK, c.status)
		require.Equal(t, "text/event-stream", c.header.Get("Content-Type"))
		require.Equal(t, "no-store", c.header.Get("Cache-Control"))
		require.Equal(t, "no", c.header.Get("X-Accel-Buffering"))
		go func() {
			time.Sleep(15 * time.Second)
			b.states.set(t, "MSFT", 1)
		}()
		var got []string
		each(t, c, func(e event) bool {
			got = append(got, fmt.Sprint(e.at.Sub(began).Truncate(time.Second), " ", e.text))
			return true
		})
		require.Equal(t, []string{
			"0s retry: 1000\n\n",
			"0s event: series\nid: yfinance:AAPL:v0\n" + `data: {"symbol":"AAPL","provider":"yfinance","price":1.5,"as_of":"1970-01-01T00:00:00Z","averages":[` +
				`{"window":5,"average":1.5,"points_used":2,"complete":false},{"window":2,"average":1.5,"points_used":2,"complete":true}]}` + "\n\n",
			"10s : still here\n\n",
			"15s event: series\nid: yfinance:MSFT:v1\n" + `data: {"symbol":"MSFT","provider":"yfinance","price":2.5,"as_of":"1970-01-01T00:00:01Z","averages":[` +
				`{"window":5,"average":2.5,"points_used":2,"complete":false},{"window":2,"average":2.5,"points_used":2,"complete":true}]}` + "\n\n",
			"20s : still here\n\n", "30s : still here\n\n",
		}, got)
		require.LessOrEqual(t, time.Since(began), 40*time.Second)
		require.GreaterOrEqual(t, time.Since(began), 36*time.Second)
		require.NoError(t, c.Close())
		synctest.Wait()
		require.Contains(t, b.log.String(), `"states":2,"ended":"duration"`)
		require.Equal(t, []float64{0, 2}, []float64{b.metrics(t)["marketdata_compute_ma_stream_clients"], b.metrics(t)["marketdata_compute_ma_stream_states_total"]})
	})
}

// However often a series changes: at most four states in any second, the last one always, and one read for all clients.
func TestChangesAreConflated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Second)
		const changes = 500
		b.states.took = 3 * time.Millisecond
		b.states.set(t, "A", 0)
		began := time.Now()
		go func() {
			for n := range changes {
				b.states.set(t, "A", n)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		var clients sync.WaitGroup
		for range 5 {
			c := b.open(t, "A,B")
			clients.Go(func() {
				var events []event
				each(t, c, func(e event) bool {
					if e.data.Symbol != "" {
						events = append(events, e)
					}
					return true
				})
				for i := range events[4:] {
					require.GreaterOrEqual(t, events[i+4].at.Sub(events[i].at), time.Second+50*time.Millisecond)
				}
				last := events[len(events)-1]
				require.Equal(t, fmt.Sprint(changes, ".5"), string(last.data.Price))
				require.Less(t, last.at.Sub(began), (changes-1)*10*time.Millisecond+300*time.Millisecond)
				require.NoError(t, c.Close())
			})
		}
		clients.Wait()
		reads := b.states.readTimes()
		require.InDelta(t, 10/.273, len(reads), 5)
		requireOneReader(t, reads)
		time.Sleep(time.Minute)
		require.Len(t, b.states.readTimes(), len(reads), "without clients there is nothing to read")
		require.InDelta(t, .003*float64(len(reads)), b.metrics(t)["marketdata_compute_ma_stream_read_duration_seconds_sum"], .001)
	})
}

// requireOneReader fails if there is not a pause behind each read of 3 ms.
func requireOneReader(t *testing.T, reads []time.Time) {
	t.Helper()
	for i := range reads[1:] {
		require.Equal(t, 273*time.Millisecond, reads[i+1].Sub(reads[i]))
	}
}

// A client that comes after all others have gone gets its states, too.
func TestAClientAfterAPauseIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Second)
		b.states.set(t, "A", 1)
		for range 2 {
			var symbols []string
			each(t, b.open(t, "A"), func(e event) bool {
				if e.data.Symbol != "" {
					symbols = append(symbols, e.data.Symbol)
				}
				return true
			})
			require.Equal(t, []string{"A"}, symbols)
			time.Sleep(time.Minute)
		}
	})
}

// A slow database is left alone for as long as it takes to answer.
func TestSlowReadsAreFewer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 1, 30*time.Second)
		b.states.took = 2 * time.Second
		c := b.open(t, "A")
		each(t, c, func(event) bool { return true })
		require.LessOrEqual(t, len(b.states.readTimes()), 8)
		require.NoError(t, c.Close())
	})
}

// A client that reads late gets the newest state of each series, not those in between.
func TestASlowClientGetsTheNewestStates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 40*time.Second)
		c := b.open(t, "A,B,C")
		for n := range 100 { // for 20 s
			for _, symbol := range []string{"A", "B", "C"} {
				b.states.set(t, symbol, n)
			}
			time.Sleep(200 * time.Millisecond)
		}
		events, newest := 0, map[string]string{}
		each(t, c, func(e event) bool {
			if e.data.Symbol != "" {
				events++
				newest[e.data.Symbol] = string(e.data.Price)
			}
			return len(newest) < 3 || newest["A"] != "100.5" || newest["B"] != "100.5" || newest["C"] != "100.5"
		})
		require.LessOrEqual(t, events, 2*3, "what was being written, and the newest")
		require.NoError(t, c.Close())
	})
}

func TestAClientThatNeverReadsIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Minute)
		c := b.open(t, "A")
		b.states.set(t, "A", 1)
		time.Sleep(29 * time.Second)
		require.InDelta(t, 1, b.metrics(t)["marketdata_compute_ma_stream_clients"], 0)
		time.Sleep(2 * time.Second)
		require.InDelta(t, 0, b.metrics(t)["marketdata_compute_ma_stream_clients"], 0)
		require.InDelta(t, 1, b.metrics(t)["marketdata_compute_ma_stream_stalled_total"], 0)
		synctest.Wait() // for the line of the log
		require.Contains(t, b.log.String(), `"states":0,"ended":"not reading"`)
		require.NoError(t, c.Close())
	})
}

func TestClientsBeyondTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 1, time.Minute)
		first := b.open(t, "A")
		w := call.Do(b.srv.Handler(), http.MethodGet, "/averages/stream?symbols=A", "")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "overloaded", call.Problem(t, w).Code)
		require.Equal(t, "5", w.Header().Get("Retry-After"))
		require.InDelta(t, 1, b.metrics(t)["marketdata_compute_ma_stream_refused_total"], 0)
		require.NoError(t, first.Close())
		synctest.Wait()
		second := b.open(t, "A")
		require.Equal(t, http.StatusOK, second.status)
		require.NoError(t, second.Close())
	})
}

// While the database is away the stream says so, also to a client that comes then, and it goes on with what has changed.
func TestAnOutageOfTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Second)
		b.states.took = 3 * time.Millisecond
		b.states.set(t, "A", 0)
		go func() {
			time.Sleep(2 * time.Second)
			b.states.fail(errors.New("away"))
			time.Sleep(2 * time.Second)
			b.states.set(t, "A", 1)
			time.Sleep(2 * time.Second)
			b.states.fail(nil)
		}()
		const gone = ": the states cannot be read at the moment; the stream goes on by itself\n\n"
		var clients sync.WaitGroup
		for symbols, want := range map[string][]string{
			"A":   {"retry: 1000\n\n", "1.5", gone, ": the states can be read again\n\n", "2.5"},
			"A,A": {"retry: 1000\n\n", gone, "1.5", ": the states can be read again\n\n", "2.5"}, // comes during the outage
			"B":   {"retry: 1000\n\n", gone, ": the states can be read again\n\n"},               // so does this one
		} {
			clients.Go(func() {
				if symbols != "A" {
					time.Sleep(3 * time.Second)
				}
				c := b.open(t, symbols)
				var got []string
				each(t, c, func(e event) bool {
					if e.data.Symbol != "" {
						e.text = string(e.data.Price)
					}
					got = append(got, e.text)
					return true
				})
				require.Equal(t, want, got)
				require.NoError(t, c.Close())
			})
		}
		clients.Wait()
		requireOneReader(t, b.states.readTimes())
		require.Equal(t, 2, strings.Count(b.log.String(), "states for streams"), "one line for each change")
	})
}

// A state that is as it was, and one that cannot be sent, are read once and not sent. Others go on.
func TestStatesThatAreNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Second)
		b.states.set(t, "A", 1)
		go func() {
			for _, asOf := range []int64{1e6, 1e18} { // the last is beyond the year 9999
				time.Sleep(2 * time.Second)
				b.states.touch("A", asOf)
			}
			time.Sleep(2 * time.Second)
			b.states.set(t, "B", 2)
		}()
		c := b.open(t, "A,B")
		var got []string
		each(t, c, func(e event) bool {
			if e.data.Symbol != "" {
				got = append(got, fmt.Sprint(e.data.Symbol, " ", e.data.Price))
			}
			return true
		})
		require.Equal(t, []string{"A 2.5", "B 3.5"}, got)
		require.NoError(t, c.Close())
		synctest.Wait()
		require.Equal(t, 4, b.states.sent, "each once")
		require.Contains(t, b.log.String(), `"states":2,`)
		require.Equal(t, 1, strings.Count(b.log.String(), "state cannot be sent"))
	})
}

// Clients that go, while their states are read or while they are sent, disturb nobody.
func TestClientsThatGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, 10*time.Second)
		b.states.took = time.Second
		b.states.set(t, "A", 1)
		b.states.set(t, "B", 1)
		stays := b.open(t, "B")
		time.Sleep(1500 * time.Millisecond)
		during := b.open(t, "A")
		time.Sleep(time.Second) // the second read has begun
		require.NoError(t, during.Close())
		synctest.Wait()
		writing := b.open(t, "B") // what it is sent waits to be read
		time.Sleep(time.Second)
		require.NoError(t, writing.Close())
		synctest.Wait()
		require.InDelta(t, 0, b.metrics(t)["marketdata_compute_ma_stream_stalled_total"], 0)
		require.Equal(t, 2, strings.Count(b.log.String(), `"states":0,"ended":"client"`))
		b.states.set(t, "B", 2)
		var prices []string
		each(t, stays, func(e event) bool {
			if e.data.Symbol != "" {
				prices = append(prices, string(e.data.Price))
			}
			return true
		})
		require.Equal(t, []string{"2.5", "3.5"}, prices)
		require.NoError(t, stays.Close())
	})
}

// At the stop all streams end at once, and whole.
func TestStreamsEndAtTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, 10, time.Hour)
		c := b.open(t, "A")
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			close(b.stopping)
		}()
		each(t, c, func(event) bool { return true })
		require.Equal(t, time.Second, time.Since(began))
		require.NoError(t, c.Close())
		synctest.Wait()
		require.Contains(t, b.log.String(), `"ended":"stopping"`)
	})
}

func TestRequestsOfStreams(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	many := func(n int) string { return "symbols=A" + strings.Repeat(",A", n-1) }
	for query, code := range map[string]string{
		"": "invalid_parameter", "symbols=": "invalid_parameter", "symbols=A,": "invalid_symbol", "symbols=A,%2F": "invalid_symbol", many(101): "invalid_parameter",
		"symbols=A&symbols=B": "invalid_parameter", "symbols=A&provider=X": "invalid_provider", "symbols=A&window=5": "invalid_parameter", "symbols=%zz": "invalid_parameter",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			w := call.Do(b.srv.Handler(), http.MethodGet, "/averages/stream?"+query, "")
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Equal(t, code, call.Problem(t, w).Code)
		})
	}
	for _, accept := range []string{"", "application/json"} {
		w := call.Do(b.srv.Handler(), http.MethodHead, "/averages/stream?"+many(100), "", "Accept", accept)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "text/event-stream", w.Header().Get("Content-Type"))
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.routes.Document(ratelimit.Document)
	apidoc.Check(t, b.routes.OpenAPI())
	w := call.Do(b.srv.Handler(), http.MethodGet, "/openapi.json", "")
	require.Equal(t, http.StatusOK, w.Code)
	for _, want := range []string{`"/averages/latest":{`, `"text/event-stream":{"example":{`, `retry: 1000`, `"ComputeMaSeries":{`, `"maxItems":100`, `"503":{`} {
		require.Contains(t, w.Body.String(), want)
	}
}
