//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/testenv"
)

// A letter is replayed even if HTTP cannot carry some of its names and values.
func TestALetterWithUnusableMetadataIsReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.GoodEvent,
		kafkaclient.Header{Name: "ce_trace id", Value: []byte("7")}, kafkaclient.Header{Name: "ce_a/b", Value: []byte("7")},
		kafkaclient.Header{Name: "ce_é", Value: []byte("7")}, kafkaclient.Header{Name: "ce_note", Value: []byte("é\r\nx: y")},
		kafkaclient.Header{Name: "ce_time", Value: []byte("+58877-01-01T00:00:00Z")})
	require.Equal(t, 204, b.deliver(t, 0, lettertest.GoodEvent))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
	status, l := b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "resolved", l["status"])
	require.Equal(t, string(lettertest.GoodEvent), b.target.Value)
	require.Equal(t, "%C3%A9%0D%0Ax: y", b.target.Got.Get("Ce-Note"))
	require.Empty(t, b.target.Got.Get("Ce-Time"))
	require.Equal(t, "e1", b.target.Got.Get("Ce-Id"))
}

// The audit trail keeps what an edited replay sent, and who sent it. A later replay of the original value carries no correction, however
// the edited one ended.
func TestTheAuditKeepsWhatAnEditedReplaySent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	path := "/dlq/messages/" + b.id(t, "A")
	b.target.Set(503, "")
	edited := bytes.Replace(lettertest.GoodEvent, []byte(":1.10"), []byte(": 12345678901234567890.123456789012345678"), 1)
	request, err := json.Marshal(map[string]string{"value": string(edited), "reason": "mended"})
	require.NoError(t, err)
	status, l := b.do(t, http.MethodPost, path+"/replay", string(request))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Equal(t, "1", b.target.Got.Get("Ce-Correction"))

	b.target.Set(204, "")
	status, l = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Empty(t, b.target.Got.Get("Ce-Correction"))
	var trail []operators.AuditBody
	text, err := json.Marshal(l["audit"])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &trail))
	require.Len(t, trail, 4)
	require.Equal(t, string(edited), *trail[0].Value)
	require.Equal(t, "text", trail[0].ValueEncoding)
	require.Equal(t, len(edited), *trail[0].ValueBytes)
	require.Equal(t, "operator", trail[0].Who)
	require.Equal(t, "mended", trail[0].Reason)
	for _, other := range trail[1:] {
		require.Nil(t, other.Value)
		require.Nil(t, other.ValueBytes)
	}
}

// Of a long trail the newest 1000 changes are shown, and the newest values up to a limit.
func TestALongTrailIsShownFromItsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	b.exec(t, `insert into dead_letter_audit (letter_id, who, action, before, after, value)
		select (select id from dead_letters), 'x', n::text, '{}', '{}', convert_to(repeat('x', 300000), 'UTF8') from generate_series(1, 1010) n`)
	l := b.only(t)
	trail, ok := l["audit"].([]any)
	require.True(t, ok)
	require.Len(t, trail, 1000)
	shown := 0
	for i, entry := range trail {
		m, ok := entry.(map[string]any)
		require.True(t, ok)
		require.Equal(t, fmt.Sprint(i+11), m["action"])
		require.InDelta(t, 300000, m["value_bytes"], 0)
		if m["value"] != nil {
			shown++
		}
	}
	require.Equal(t, 6, shown)
	require.Contains(t, trail[999], "value")
}

// A killed process leaves letters in replaying. A tick opens them, and their replays do not count towards MAX_REPLAYS.
func TestKillsUseUpNoReplays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	id := uuid.MustParse(b.id(t, "A"))
	for range 5 { // MAX_REPLAYS is 2 here
		_, err := b.store.Transition(t.Context(), id, letter.Change{Who: "x", Action: letter.ActionReplay, Apply: func(l letter.Stored) (letter.State, error) {
			return l.Begin(letter.Attempt{Token: uuid.New(), Lease: new(time.Duration), MaxReplays: 2})
		}})
		require.NoError(t, err)
		b.tick(t)
	}
	status, l := b.do(t, http.MethodPost, "/dlq/messages/"+id.String()+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "resolved", l["status"])
	require.InDelta(t, 1, l["replay_count"], 0)
	require.Equal(t, 5, b.count(t, "select count(*) from dead_letter_audit where action = 'recover' and after->>'status' = 'open'"))
}

// severing is a proxy for Postgres. While armed, it cuts a connection once the server has answered a commit, before it passes the answer
// on: the client cannot know whether the commit was made.
type severing struct {
	mu    sync.Mutex
	armed int // cuts to come
	cuts  int
}

func (s *severing) arm(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.cuts = n, 0
}

func (s *severing) cut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.armed == 0 {
		return false
	}
	s.armed--
	s.cuts++
	return true
}

// start listens and returns the database's URL through the proxy.
func (s *severing) start(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			go s.pass(client, upstream)
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

func (s *severing) pass(client, upstream net.Conn) {
	defer client.Close()   //nolint:errcheck // it may be cut
	defer upstream.Close() //nolint:errcheck // it may be cut
	committed := make(chan struct{}, 1)
	go func() {
		defer upstream.Close() //nolint:errcheck // the other end is gone
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if bytes.Contains(buffer[:n], []byte("commit\x00")) || bytes.Contains(buffer[:n], []byte("COMMIT\x00")) {
				select {
				case committed <- struct{}{}:
				default:
				}
			}
			if _, werr := upstream.Write(buffer[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buffer)
		select {
		case <-committed:
			if s.cut() {
				return
			}
		default:
		}
		if _, werr := client.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

// A change is made once, and answered as made, even if the answer to its commit is lost: replay, verdict, discard, restore.
func TestAChangeThatWasMadeIsNeverAnsweredAsAFailure(t *testing.T) {
	t.Parallel()
	var cutter severing
	direct := testenv.Postgres(t)
	pool, err := postgres.Open(t.Context(), cutter.start(t, direct.Config().ConnString()))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b := setupOn(t, pool)
	b.keep(t, letter.Letter{Value: lettertest.GoodEvent, Symbol: "A", Attributes: lettertest.Event()}, deadletter.Failure{Code: "x", FailedAt: time.Now()})
	path := "/dlq/messages/" + b.id(t, "A")
	for action, want := range map[string]string{"discard": "discarded", "restore": "open", "replay": "resolved"} {
		from := map[string]string{"discard": "open", "restore": "discarded", "replay": "open"}[action]
		_, err := direct.Exec(t.Context(), "update dead_letters set status = $1, replay_count = 0", from)
		require.NoError(t, err)
		_, err = direct.Exec(t.Context(), "delete from dead_letter_audit")
		require.NoError(t, err)
		cutter.arm(3)
		status, l := b.do(t, http.MethodPost, path+"/"+action, "")
		require.Equal(t, http.StatusOK, status, "%s: %v", action, l)
		require.Equal(t, want, l["status"])
		require.Equal(t, 3, cutter.cuts, "the connection was cut")
		changes := 1
		if action == "replay" {
			changes = 2
		}
		require.Equal(t, changes, b.count(t, "select count(*) from dead_letter_audit"), "made once")
	}
	require.Len(t, b.target.Calls, 1)
	require.Equal(t, 1, b.target.Calls["e1"])
}

// If compute-ma hangs, the replay of one letter ends before its lease, and before the platform's 45 s.
func TestAReplayToAFunctionThatHangsIsBounded(t *testing.T) {
	t.Parallel()
	require.Less(t, replay.VerdictTimeout, replay.Lease)
	b := setup(t)
	b.save(t, "A", 1)
	hanging := make(chan struct{})
	b.target.Answer = func(*http.Request) (int, string) { <-hanging; return 204, "" }
	t.Cleanup(func() { close(hanging) })
	began := time.Now()
	status, l := b.do(t, http.MethodPost, "/dlq/messages/"+b.id(t, "A")+"/replay", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Less(t, time.Since(began), replay.Lease)
	require.Equal(t, 1, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_count = 0"))
}
