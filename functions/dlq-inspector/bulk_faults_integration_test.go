//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

// hurry is finish without the pauses.
func (b bundle) hurry(t *testing.T, v operators.BulkBody) operators.BulkBody {
	t.Helper()
	for v.Status == "running" {
		b.tick(t)
		b.exec(t, "update dead_letter_replays set lease_expires_at = now() where lease_token is null")
		v = b.bulk(t, v.ID)
	}
	require.Zero(t, b.count(t, "select count(*) from dead_letters where replay_id is not null or status = 'replaying'"))
	return v
}

// fill stores n open letters of a symbol, with origins on the topic.
func (b bundle) fill(t *testing.T, symbol string, n int) {
	t.Helper()
	lettertest.Fill(t, b.pool, b.topic, symbol, n)
}

// If the function gives no verdict on one letter, the others do not wait: they are replayed, and that letter is skipped in the end, with
// the reason. It stays open.
func TestALettersOwnTroubleSkipsThatLetter(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(w http.ResponseWriter){
		"status 500": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"status 503": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"a connection lost": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for _, symbol := range []string{"BAD", "GOOD"} {
				b.fill(t, symbol, map[string]int{"BAD": 3, "GOOD": 200}[symbol])
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.Header.Get("Ce-Id"), "BAD") {
					trouble(w)
					return
				}
				w.WriteHeader(map[string]int{http.MethodPost: 204, http.MethodGet: 200}[r.Method])
			}))
			t.Cleanup(server.Close)
			b.replayer.Function = server.URL
			v := b.hurry(t, b.replayMany(t, `{"rate_per_second":10000}`))
			require.Equal(t, "completed", v.Status)
			require.Equal(t, map[string]int64{"resolved": 200, "skipped": 3, "refused": 0, "sent": 0}, v.Outcomes)
			require.Equal(t, map[string]int64{"no_verdict": 3}, v.Reasons)
			require.Equal(t, 3, b.count(t, "select count(*) from dead_letters where symbol = 'BAD' and status = 'open' and replay_count = 0 and replay_troubles = 0"))
		})
	}
}

func TestBulkPlanOfALetterWithoutAVerdictEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "BAD", 1)
	b.target.Answer = func(r *http.Request) (int, string) {
		return map[string]int{http.MethodPost: 503, http.MethodGet: 200}[r.Method], ""
	}
	v := b.hurry(t, b.replayMany(t, `{"dry_run":true}`))
	require.Equal(t, "completed", v.Status)
	require.Equal(t, map[string]int64{"no_verdict": 1}, v.Reasons)
}

// A function that hangs delays neither the request nor the cancellation, and a repeated request creates no second replay.
func TestBulkWhileTheFunctionHangs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 1000)
	hanging := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(hanging) })
	defer goOn() // a test that fails does not hang, too
	b.target.Answer = func(*http.Request) (int, string) { <-hanging; return 503, "" }
	began := time.Now()
	status, first, header := b.ask(t, `{"rate_per_second":10000}`, "k")
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, "running", first["status"])
	status, again, _ := b.ask(t, `{"rate_per_second":10000}`, "k")
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, first["id"], again["id"])
	status, other, _ := b.ask(t, `{"rate_per_second":1}`, "k")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "idempotency_conflict", other["code"])
	require.Eventually(t, func() bool { return b.target.Events() == replay.MaxInFlight }, 5*time.Second, time.Millisecond)
	status, _ = b.do(t, http.MethodDelete, header.Get("Location"), "")
	require.Equal(t, http.StatusOK, status)
	require.Less(t, time.Since(began), 5*time.Second)
	goOn()
	b.bulks.Wait(10 * time.Second)
	require.Equal(t, replay.MaxInFlight, b.target.Events(), "no further letter")
	require.Equal(t, 1000, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_id is null and replay_count = 0"))
	require.Equal(t, 1, b.count(t, "select count(*) from dead_letter_replays"))

	b.exec(t, "update dead_letter_replay_keys set created_at = now() - interval '25 hours'")
	b.tick(t)
	require.Zero(t, b.count(t, "select count(*) from dead_letter_replay_keys"))
}

func (b bundle) ask(t *testing.T, body, key string) (int, map[string]any, http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/dlq/replays", strings.NewReader(body))
	r.Header = http.Header{"Authorization": {"Bearer secret"}, "Content-Type": {"application/json"}, "Idempotency-Key": {key}}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	var v map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v))
	return w.Code, v, w.Header()
}

func TestBulkStopsWhenMostIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 2000)
	b.target.Set(422, `{"code":"invalid_price","detail":"still"}`)
	v := b.finish(t, b.replayMany(t, `{"rate_per_second":2000}`))
	require.Equal(t, "stopped", v.Status)
	require.NotEmpty(t, v.StopReason)
	require.NotNil(t, v.FinishedAt)
	require.GreaterOrEqual(t, v.Outcomes["refused"], int64(200))
	require.LessOrEqual(t, v.Outcomes["refused"], int64(200+replay.MaxInFlight))
	require.EqualValues(t, v.Outcomes["refused"], b.target.Events())
	v = b.finish(t, b.replayMany(t, `{"rate_per_second":10000,"force":true}`))
	require.Equal(t, "completed", v.Status)
	require.EqualValues(t, 2000, v.Outcomes["refused"])
}

// Operators work on letters that a bulk replay has marked: whatever they do, each letter gets one outcome.
func TestBulkAndOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 6)
	ids := func(status string) (all []string) {
		rows, err := b.pool.Query(t.Context(), "select id::text from dead_letters where status = $1 order by id", status)
		require.NoError(t, err)
		for rows.Next() {
			var id string
			require.NoError(t, rows.Scan(&id))
			all = append(all, id)
		}
		require.NoError(t, rows.Err())
		return all
	}
	b.target.Set(503, "")
	v := b.replayMany(t, `{"rate_per_second":10000}`)
	b.tick(t)
	require.Equal(t, 6, b.count(t, "select count(*) from dead_letters where replay_id is not null"))
	letters := ids("open")
	status, _ := b.do(t, http.MethodPost, "/dlq/messages/"+letters[0]+"/discard", "")
	require.Equal(t, http.StatusOK, status)
	b.target.Set(204, "")
	status, _ = b.do(t, http.MethodPost, "/dlq/messages/"+letters[1]+"/replay", "")
	require.Equal(t, http.StatusOK, status)
	_, err := b.store.Transition(t.Context(), uuid.MustParse(letters[2]), letter.Change{Who: "x", Action: letter.ActionReplay, Apply: func(l letter.Stored) (letter.State, error) {
		return l.Begin(letter.Attempt{Token: uuid.New(), Lease: new(time.Hour), MaxReplays: 2})
	}})
	require.NoError(t, err)
	b.exec(t, "update dead_letter_replays set lease_expires_at = now()")
	b.tick(t)
	v = b.bulk(t, v.ID)
	require.Equal(t, "running", v.Status, "it waits for the letter that an operator replays")
	require.Equal(t, map[string]int64{"resolved": 3, "skipped": 2, "refused": 0, "sent": 0}, v.Outcomes)
	b.exec(t, "update dead_letters set replay_expires_at = now() where status = 'replaying'")
	v = b.hurry(t, v)
	require.Equal(t, map[string]int64{"resolved": 4, "skipped": 2, "refused": 0, "sent": 0}, v.Outcomes)
	require.Equal(t, "completed", v.Status)
}

// Copies are sent to each partition in the order of their records, whatever the order in which the letters arrived.
func TestBulkCopiesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 100)
	b.exec(t, "update dead_letters set partition = 0, key = '\\x00'")
	v := b.finish(t, b.replayMany(t, `{"target":"topic","rate_per_second":1000}`))
	require.Equal(t, map[string]int64{"resolved": 0, "skipped": 0, "refused": 0, "sent": 100}, v.Outcomes)
	for i, r := range testenv.Records(t, testenv.Kafka(t), b.topic, 100) {
		require.Equal(t, fmt.Sprint(i+1), string(r.Value))
	}
}

// A copy that the broker does not acknowledge blocks those behind it, and nothing is sent twice.
func TestBulkCopiesWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 20)
	working := b.replayer.Producer
	away := kafkaclient.NewProducer(kafkaclient.At("127.0.0.1:1"), slog.New(slog.DiscardHandler))
	t.Cleanup(func() { away.Close(0) })
	b.replayer.Producer = away
	v := b.replayMany(t, `{"target":"topic","rate_per_second":1000}`)
	b.tick(t)
	require.Zero(t, b.bulk(t, v.ID).Done)
	b.replayer.Producer = working
	v = b.hurry(t, b.bulk(t, v.ID))
	require.EqualValues(t, 20, v.Outcomes["sent"])
	require.Len(t, testenv.Records(t, testenv.Kafka(t), b.topic, 20), 20)
}

// refusing is a topic that can never accept some records.
type refusing struct {
	replay.Producer
	large string // key of those
}

func (r refusing) Produce(ctx context.Context, record kafkaclient.Record) error {
	if string(record.Key) == r.large {
		return fault.New(fault.Invalid, "message_too_large", "the record is larger than the topic allows")
	}
	return r.Producer.Produce(ctx, record)
}

// A copy that the topic can never accept is skipped, and those behind it are sent.
func TestBulkCopiesThatTheTopicNeverTakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, "A", 20)
	b.exec(t, "update dead_letters set partition = 0, key = case when record_offset % 10 = 5 then 'large'::bytea else 'k'::bytea end")
	b.replayer.Producer = refusing{b.replayer.Producer, "large"}
	v := b.finish(t, b.replayMany(t, `{"target":"topic","rate_per_second":1000}`))
	require.Equal(t, map[string]int64{"resolved": 0, "skipped": 2, "refused": 0, "sent": 18}, v.Outcomes)
	require.Equal(t, map[string]int64{"body_too_large": 2}, v.Reasons)
	v = b.finish(t, b.replayMany(t, `{"target":"topic"}`))
	require.Equal(t, map[string]int64{"resolved": 0, "skipped": 2, "refused": 0, "sent": 0}, v.Outcomes, "even if there are no others")

	var id, status string
	require.NoError(t, b.pool.QueryRow(t.Context(), "select id::text, status from dead_letters where key = 'large' limit 1").Scan(&id, &status))
	require.Equal(t, "open", status)
	code, body := b.do(t, http.MethodPost, "/dlq/messages/"+id+"/replay", `{"target":"topic","force":true}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, code, body)
	require.Equal(t, "body_too_large", body["code"])
}

// Random verdicts, lost answers and cut connections to Postgres, with three replicas: every letter has exactly one outcome, and its
// state is that of the outcome.
func TestRandomFaultsLeaveOneOutcomeForEachLetter(t *testing.T) {
	t.Parallel()
	const n = 1000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	b := setup(t)
	b.fill(t, "A", n)
	var mu sync.Mutex
	last := map[string]int{} // by event: the answer that says what becomes of it
	b.target.Answer = func(r *http.Request) (int, string) {
		if r.Method == http.MethodGet {
			return 200, ""
		}
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("Ce-Id")
		if last[id] != 0 { // a verdict is the same again, as compute-ma's is
			return last[id], `{"code":"invalid_price","detail":"x"}`
		}
		switch p := random.IntN(100); {
		case p < 5:
			return 503, ""
		case p < 35:
			last[id] = 422
		default:
			last[id] = 204
		}
		return last[id], `{"code":"invalid_price","detail":"x"}`
	}
	runners := []*replay.Runner{b.bulks}
	for range 2 {
		runners = append(runners, replay.NewRunner(uuid.NewString(), b.store, b.replayer, slog.New(slog.DiscardHandler), replay.NewMetrics(vm.NewSet()), nil))
	}
	v := b.replayMany(t, `{"rate_per_second":10000}`)
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				_, _ = b.pool.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()")
			}
		}
	})
	for i := 0; ; i++ {
		_ = runners[i%len(runners)].Advance(t.Context(), time.Second)
		_, _ = b.pool.Exec(t.Context(), "update dead_letter_replays set lease_expires_at = now() where lease_token is null")
		if found, err := b.store.Bulk(t.Context(), v.ID); err == nil && found.Status != "running" {
			break
		}
	}
	close(stop)
	chaos.Wait()
	require.Eventually(t, func() bool { return b.pool.Ping(t.Context()) == nil }, 10*time.Second, time.Millisecond)
	v = b.bulk(t, v.ID)
	require.Equal(t, "completed", v.Status)
	require.EqualValues(t, n, v.Done)
	require.Zero(t, v.Outcomes["skipped"], "none was left out")
	require.Zero(t, b.count(t, "select count(*) from dead_letters where replay_id is not null or status = 'replaying'"))
	resolved, refused := 0, 0
	for _, status := range last {
		if status == 204 {
			resolved++
		} else {
			refused++
		}
	}
	require.EqualValues(t, resolved, v.Outcomes["resolved"])
	require.EqualValues(t, refused, v.Outcomes["refused"])
	require.Equal(t, resolved, b.count(t, "select count(*) from dead_letters where status = 'resolved' and replay_count = 1"))
	require.Equal(t, refused, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_count = 1 and failure_count = 1"))
	require.Equal(t, refused, b.count(t, "select count(*) from dead_letter_failures"))
	require.Equal(t, n, b.count(t, "select count(*) from dead_letter_audit where action = 'resolve' or action = 'reopen' and reason = 'x'"))
}
