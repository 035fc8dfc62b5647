//go:build integration

package e2e

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func event(symbol, price, at, source string, id uuid.UUID) *kafka.Message {
	return &kafka.Message{
		Key:   []byte(symbol),
		Value: fmt.Appendf(nil, `{"symbol":%q,"price":%s,"timestamp":%q,"source":%q,"raw_response_id":%q}`, symbol, price, at, source, id),
	}
}

// The whole system. The subtests share one stack and run in order.
func TestPipeline(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "COPIES=compute-ma=2")

	t.Run("a fetched price reaches its average", func(t *testing.T) { //nolint:paralleltest // in order
		status, price := s.get(t, "/prices/latest?symbol=AAPL&provider=yfinance")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "AAPL", price["symbol"])
		require.Equal(t, "yfinance", price["provider"])
		require.Eventually(t, func() bool {
			status, average := s.get(t, "/averages/latest?symbol=AAPL&provider=yfinance&window=5")
			return status == http.StatusOK && average["average"] == price["price"] && average["as_of"] == price["timestamp"]
		}, 20*time.Second, 20*time.Millisecond)
		// The row goes once the broker has acknowledged the event, which may be after the average is there.
		require.Eventually(t, func() bool { return len(s.rows(t, "select id::text from outbox")) == 0 }, 20*time.Second, 20*time.Millisecond)
	})

	t.Run("the sixth request of a minute is refused", func(t *testing.T) { //nolint:paralleltest // in order
		for range 4 {
			status, _, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL", "", "X-Forwarded-For", uuid.NewString())
			require.Equal(t, http.StatusOK, status, "the client's own X-Forwarded-For is ignored")
		}
		status, body, header := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL", "")
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Contains(t, string(body), `"code":"rate_limited"`)
		require.NotEmpty(t, header.Get("Retry-After"))
	})

	t.Run("shuffled and repeated closes give exact means", func(t *testing.T) { closes(t, s) })          //nolint:paralleltest // in order
	t.Run("averages equal published test vectors", func(t *testing.T) { vectors(t, s) })                 //nolint:paralleltest // in order
	t.Run("poison is dead-lettered and does not block", func(t *testing.T) { poison(t, s) })             //nolint:paralleltest // in order
	t.Run("a job polls", func(t *testing.T) { polling(t, s) })                                           //nolint:paralleltest // in order
	t.Run("no event is lost when functions and database are killed", func(t *testing.T) { kills(t, s) }) //nolint:paralleltest // in order
	t.Run("event routes are not public", func(t *testing.T) {                                            //nolint:paralleltest // in order
		for _, path := range []string{"/", "/dry-run"} {
			status, _, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+path, "{}")
			require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, status)
		}
	})
	t.Run("the stack stops completely and restarts with its data", func(t *testing.T) { restart(t, s) }) //nolint:paralleltest // in order
}

// closes sends the real monthly closes as plain records: in order for one provider, and shuffled with a third of them repeated for
// another. Both must have the same averages, equal to the exact means.
func closes(t *testing.T, s *stack) {
	t.Helper()
	f, err := os.Open("../exchange/stocks.csv")
	require.NoError(t, err)
	defer f.Close() //nolint:errcheck // only read
	table, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	var inOrder, shuffled []*kafka.Message
	prices := map[string]map[time.Time]*big.Rat{}
	for i, row := range table[1:] {
		at, err := time.Parse("Jan 2 2006", row[1])
		require.NoError(t, err)
		id := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		stamp := at.Format(time.RFC3339)
		inOrder = append(inOrder, event(row[0], row[2], stamp, "in_order", id))
		shuffled = append(shuffled, event(row[0], row[2], stamp, "shuffled", id))
		if i%3 == 0 {
			shuffled = append(shuffled, event(row[0], row[2], stamp, "shuffled", id))
		}
		if prices[row[0]] == nil {
			prices[row[0]] = map[time.Time]*big.Rat{}
		}
		prices[row[0]][at], _ = new(big.Rat).SetString(row[2])
	}
	rng := rand.New(rand.NewPCG(5, 6))
	rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	s.produce(t, inOrder...)
	s.produce(t, shuffled...)

	total := fmt.Sprint(len(inOrder))
	s.eventually(t, []string{total, total}, "select count(*)::text from price_points where provider in ('in_order', 'shuffled') group by provider")
	var want []string
	for _, symbol := range []string{"AAPL", "AMZN", "GOOG", "IBM", "MSFT"} {
		var times []time.Time
		for at := range prices[symbol] {
			times = append(times, at)
		}
		sort.Slice(times, func(i, j int) bool { return times[i].After(times[j]) })
		sum := new(big.Rat)
		for _, at := range times[:5] {
			sum.Add(sum, prices[symbol][at])
		}
		mean := strings.TrimRight(sum.Quo(sum, big.NewRat(5, 1)).FloatString(3), "0")
		want = append(want, symbol+" "+strings.TrimSuffix(mean, "."))
	}
	q := "select symbol || ' ' || average from symbol_averages where provider = $1 and window_size = 5 order by 1"
	require.Equal(t, want, s.rows(t, q, "in_order"))
	all := "select concat_ws(' ', symbol, window_size, average, points_used, complete, as_of, oldest) from symbol_averages where provider = $1 order by 1"
	require.Equal(t, s.rows(t, all, "in_order"), s.rows(t, all, "shuffled"))
}

// vectors sends two published series, shuffled. Each of their five-point averages has a symbol of its own, with all points up to it.
func vectors(t *testing.T, s *stack) {
	t.Helper()
	raw, err := os.ReadFile("../../functions/compute-ma/internal/series/testdata/talib_close252.txt")
	require.NoError(t, err)
	tulip := strings.Fields("81.59 81.06 82.87 83.00 83.61 83.15 82.84 83.99 84.55 84.36 85.53 86.54 86.89 87.77 87.29")
	talib := strings.Split(strings.TrimSpace(string(raw)), ",")
	require.Len(t, talib, 252)
	want := []string{"TALIB000 93.913", "TALIB247 109.036"}
	for i, average := range strings.Fields("82.426 82.738 83.094 83.318 83.628 83.778 84.254 84.994 85.574 86.218 86.804") {
		want = append(want, fmt.Sprintf("TULIP%03d %s", i, average))
	}
	var events []*kafka.Message
	play := func(name string, series []string) {
		for i := range series {
			at := time.Date(2020, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339)
			events = append(events, event(name, series[i], at, "vector", uuid.NewSHA1(uuid.Nil, fmt.Append(nil, name, i))))
		}
	}
	play("TALIB000", talib[:5])
	play("TALIB247", talib)
	for i := range len(tulip) - 4 {
		play(fmt.Sprintf("TULIP%03d", i), tulip[:i+5])
	}
	rng := rand.New(rand.NewPCG(7, 8))
	rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	s.produce(t, events...)
	s.eventually(t, []string{fmt.Sprint(len(events))}, "select count(*)::text from price_points where provider = 'vector'")
	require.Equal(t, want, s.rows(t, "select symbol || ' ' || average from symbol_averages where provider = 'vector' and window_size = 5 order by 1"))
}

func poison(t *testing.T, s *stack) {
	t.Helper()
	random := make([]byte, 333)
	rng := rand.New(rand.NewPCG(1, 9))
	for i := range random {
		random[i] = byte(rng.IntN(256))
	}
	huge := []byte(`{"symbol":"HUGE","note":"` + strings.Repeat("x", 900_000) + `"}`)
	wrong := []byte(`{"symbol":"WRONG","price":"12.5","timestamp":"2024-01-01T00:00:00Z","source":"test","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`)
	binaryKey := []byte{0, 1, 0xFF}
	s.produce(t,
		&kafka.Message{Value: random, Key: binaryKey}, &kafka.Message{Key: []byte("NULL")}, &kafka.Message{Value: huge}, &kafka.Message{Value: wrong, Headers: []kafka.Header{{Key: "from", Value: []byte("test")}}},
		event("AFTER", "7", "2024-01-01T00:00:00Z", "test", uuid.New()))
	s.eventually(t, []string{"7"}, "select average::text from symbol_averages where symbol = 'AFTER' and window_size = 5")
	s.eventually(t, []string{"invalid_price", "invalid_schema", "no_data", "undecodable"},
		"select code from dead_letters where status = 'open' and exact order by 1")

	auth := []string{"Authorization", "Bearer " + s.env["DLQ_TOKEN"]}
	status, _, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/dlq/messages", "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/dlq/messages?status=open", "", auth...)
	require.Equal(t, http.StatusOK, status, string(body))
	var list struct {
		Messages []struct{ ID, Code string }
	}
	require.NoError(t, json.Unmarshal(body, &list))
	ids := map[string]string{}
	for _, m := range list.Messages {
		ids[m.Code] = m.ID
	}
	require.Len(t, ids, 4)
	for code, value := range map[string][]byte{"undecodable": random, "invalid_schema": huge, "invalid_price": wrong} {
		var stored []byte
		require.NoError(t, s.pool.QueryRow(t.Context(), "select value from dead_letters where id = $1", ids[code]).Scan(&stored))
		require.Equal(t, value, stored, code)
	}
	_, body, _ = call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/dlq/messages/"+ids["undecodable"], "", auth...)
	var letter struct {
		Value, Key    *string
		ValueEncoding string `json:"value_encoding"`
		Exact         bool
		Status        string
	}
	require.NoError(t, json.Unmarshal(body, &letter))
	require.True(t, letter.Exact)
	require.Equal(t, "base64", letter.ValueEncoding)
	require.Equal(t, base64.StdEncoding.EncodeToString(random), *letter.Value)
	require.Equal(t, base64.StdEncoding.EncodeToString(binaryKey), *letter.Key)

	replay := func(code, request string) (int, string) {
		status, body, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/dlq/messages/"+ids[code]+"/replay", request, append(auth, "Content-Type", "application/json")...)
		_ = json.Unmarshal(body, &letter) // a problem document leaves the status unchanged
		return status, string(body)
	}
	status, text := replay("invalid_price", `{"reason":"as it was"}`)
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, "open", letter.Status, "unchanged bytes are refused again")
	status, text = replay("invalid_price", `{"value":"{\"symbol\":\"WRONG\"}"}`)
	require.Equal(t, http.StatusBadRequest, status, text)
	corrected, err := json.Marshal(map[string]string{"value": strings.Replace(string(wrong), `"12.5"`, `12.5`, 1), "reason": "price is a number"})
	require.NoError(t, err)
	status, text = replay("invalid_price", string(corrected))
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, "resolved", letter.Status)
	require.Equal(t, []string{"12.5"}, s.rows(t, "select average::text from symbol_averages where symbol = 'WRONG' and window_size = 5"))

	status, _, _ = call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/dlq/messages/"+ids["no_data"]+"/discard", `{"reason":"tombstone"}`, append(auth, "Content-Type", "application/json")...)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []string{"operator discard tombstone"}, s.rows(t, "select concat_ws(' ', who, action, reason) from dead_letter_audit where letter_id = $1", ids["no_data"]))
}

func polling(t *testing.T, s *stack) {
	t.Helper()
	status, body, header := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/prices/poll", `{"symbols":["msft","IBM","MSFT"],"interval":5}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusAccepted, status, string(body))
	require.Contains(t, string(body), `"status":"accepted","config":{"symbols":["MSFT","IBM"],"interval":5,"provider":"yfinance"}`)
	job := header.Get("Location")
	require.Eventually(t, func() bool {
		_, v := s.get(t, job)
		runs, _ := v["runs"].(float64)
		return runs >= 2
	}, 30*time.Second, 100*time.Millisecond)
	require.Eventually(t, func() bool {
		status, v := s.get(t, "/averages/latest?symbol=IBM&provider=yfinance")
		used, _ := v["points_used"].(float64)
		return status == http.StatusOK && used >= 2
	}, 10*time.Second, 50*time.Millisecond)
	status, _, _ = call(t, http.MethodDelete, s.env["GATEWAY_URL"]+job, "")
	require.Equal(t, http.StatusNoContent, status)
}

// kills kills one replica of compute-ma, then the other, then Postgres, while records are produced. At the end every record counts
// once.
func kills(t *testing.T, s *stack) {
	t.Helper()
	const n = 600
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	flow := func(from, to int) {
		var batch []*kafka.Message
		for i := from; i < to; i++ {
			batch = append(batch, event("KILL", fmt.Sprint(i+1), at.Add(time.Duration(i)*time.Second).Format(time.RFC3339), "test", uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))))
		}
		s.produce(t, batch...)
	}
	pids := s.pids(t, "compute-ma")
	require.Len(t, pids, 2)
	flow(0, n/3)
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	flow(n/3, 2*n/3)
	require.NoError(t, syscall.Kill(pids[1], syscall.SIGKILL))
	require.NoError(t, syscall.Kill(s.postmaster(t), syscall.SIGKILL))
	flow(2*n/3, n)
	s.eventually(t, []string{fmt.Sprintf("%d %d", n, n*(n+1)/2)}, "select concat_ws(' ', count(*), sum(price)) from price_points where symbol = 'KILL'")
	s.eventually(t, []string{"598 5 t"}, "select concat_ws(' ', average, points_used, complete) from symbol_averages where symbol = 'KILL' and window_size = 5")
	require.Empty(t, s.rows(t, "select code from dead_letters where symbol = 'KILL'"))
}

func restart(t *testing.T, s *stack) {
	t.Helper()
	before := s.rows(t, "select concat_ws(' ', symbol, provider, window_size, average) from symbol_averages where provider = 'in_order' order by 1")
	require.NotEmpty(t, before)
	postmaster := s.postmaster(t)
	addresses := []string{s.env["GATEWAY_URL"], s.env["GET_LATEST_URL"], s.env["POLL_URL"], s.env["COMPUTE_MA_URL"], s.env["DLQ_INSPECTOR_URL"], s.env["REDIS_URL"]}
	if _, given := givenBroker(); !given {
		addresses = append(addresses, "tcp://"+s.env["KAFKA_BOOTSTRAP_SERVERS"])
	}
	began := time.Now()
	s.stop(t)
	require.Less(t, time.Since(began), 15*time.Second)
	require.NoFileExists(t, s.dir+"/env")
	require.ErrorIs(t, syscall.Kill(postmaster, 0), syscall.ESRCH)
	for _, address := range addresses {
		u, err := url.Parse(address)
		require.NoError(t, err)
		_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, address)
	}
	for _, name := range []string{"get-latest", "poll", "compute-ma", "dlq-inspector"} {
		require.Empty(t, s.pids(t, name))
	}

	// A stack whose runtime was killed does not block the next start.
	second := start(t, s.dir)
	require.NoError(t, second.cmd.Process.Kill())
	<-second.done
	second.cmd = nil
	second.pool.Close()
	third := start(t, s.dir)
	require.Equal(t, before, third.rows(t, "select concat_ws(' ', symbol, provider, window_size, average) from symbol_averages where provider = 'in_order' order by 1"))
	stopPaused(t, third)
}

// stopPaused stops a stack whose database is paused, with a complete and an incomplete request in flight. It must stop within 15 s
// and leave no process behind.
func stopPaused(t *testing.T, s *stack) {
	t.Helper()
	s.pool.Close()
	paused := []int{s.postmaster(t)}
	tasks, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", paused[0]))
	require.NoError(t, err)
	for _, field := range strings.Fields(string(tasks)) {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		paused = append(paused, pid)
	}
	for _, pid := range paused {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	half, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.env["GATEWAY_URL"], "http://"))
	require.NoError(t, err)
	defer half.Close() //nolint:errcheck // there is no response
	_, err = half.Write([]byte("POST /prices/poll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"))
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.env["COMPUTE_MA_URL"]+"/averages/latest?symbol=AAPL", nil)
	require.NoError(t, err)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // any response will do
		}
	}()
	began := time.Now()
	s.stop(t)
	require.Less(t, time.Since(began), 15*time.Second)
	for _, pid := range paused {
		require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	}
	<-answered
}
