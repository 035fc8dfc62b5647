//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// Names and values that HTTP cannot carry keep no letter from being replayed.
func TestALetterWithUnusableMetadataIsReplayed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, goodEvent,
		kafkaclient.Header{Name: "ce_trace id", Value: []byte("7")}, kafkaclient.Header{Name: "ce_a/b", Value: []byte("7")},
		kafkaclient.Header{Name: "ce_é", Value: []byte("7")}, kafkaclient.Header{Name: "ce_note", Value: []byte("é\r\nx: y")},
		kafkaclient.Header{Name: "ce_time", Value: []byte("+58877-01-01T00:00:00Z")})
	require.Equal(t, 204, b.deliver(t, 0, goodEvent))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
	status, l := b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "resolved", l["status"])
	require.Equal(t, string(goodEvent), b.target.value)
	require.Equal(t, "%C3%A9%0D%0Ax: y", b.target.got.Get("Ce-Note"))
	require.Empty(t, b.target.got.Get("Ce-Time"))
	require.Equal(t, "e1", b.target.got.Get("Ce-Id"))
}

// What an edited replay sent is kept with who sent it; a later replay of the letter as it was carries no correction, whatever
// became of the edited one.
func TestTheAuditKeepsWhatAnEditedReplaySent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	path := "/dlq/messages/" + b.id(t, "A")
	b.target.set(503, "")
	edited := bytes.Replace(goodEvent, []byte(":1.10"), []byte(": 12345678901234567890.123456789012345678"), 1)
	request, err := json.Marshal(map[string]string{"value": string(edited), "reason": "mended"})
	require.NoError(t, err)
	status, l := b.do(t, http.MethodPost, path+"/replay", string(request))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Equal(t, "1", b.target.got.Get("Ce-Correction"))

	b.target.set(204, "")
	status, l = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Empty(t, b.target.got.Get("Ce-Correction"))
	var trail []auditBody
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

// Of very many changes the newest are shown, and of their values as many as an answer should hold.
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

// Kills leave letters in replaying; a tick opens them, and none of that counts towards MAX_REPLAYS.
func TestKillsUseUpNoReplays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	id := uuid.MustParse(b.id(t, "A"))
	for range 5 { // MAX_REPLAYS is 2 here
		_, err := b.store.transition(t.Context(), id, change{who: "x", action: "replay", apply: func(l stored) (state, error) {
			return l.begin(attempt{token: uuid.New(), lease: new(time.Duration), maxReplays: 2})
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

// severing passes connections to Postgres on. While armed it cuts each connection once the server has answered a commit, before
// the answer is passed on: the client cannot know what became of it.
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

// start listens and gives the database's URL through the proxy.
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

// A change whose commit was answered into a cut connection is made, once, and answered as made: replay, verdict, discard, restore.
func TestAChangeThatWasMadeIsNeverAnsweredAsAFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var cutter severing
	database := b.store.pool.Config().ConnString()
	pool, err := postgres.Open(t.Context(), cutter.start(t, database))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	b.keep(t, letter{Value: goodEvent, Symbol: "A", Attributes: event()}, failure{Code: "x", FailedAt: time.Now()})
	direct := *b.store
	b.store.pool = pool
	path := "/dlq/messages/" + b.id(t, "A")
	for action, want := range map[string]string{"discard": "discarded", "restore": "open", "replay": "resolved"} {
		from := map[string]string{"discard": "open", "restore": "discarded", "replay": "open"}[action]
		_, err := direct.pool.Exec(t.Context(), "update dead_letters set status = $1, replay_count = 0", from)
		require.NoError(t, err)
		_, err = direct.pool.Exec(t.Context(), "delete from dead_letter_audit")
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
	require.Len(t, b.target.calls, 1)
	require.Equal(t, 1, b.target.calls["e1"])
}

// A letter that cannot be read back after its change is no reason to say that the change was not made.
func TestReadBackThatFailsIsNoFailureOfTheChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.save(t, "A", 1)
	id := uuid.MustParse(b.id(t, "A"))
	h := &handler{store: unreadable{b.store}, bulks: &bulkRunner{log: slog.New(slog.DiscardHandler)}}
	answer, err := h.discard(t.Context(), &reasonRequest{ID: id})
	require.NoError(t, err)
	require.Equal(t, "discarded", answer.Body.Status)
	require.Equal(t, 1, b.count(t, "select count(*) from dead_letters where status = 'discarded'"))
}

type unreadable struct{ *pgStore }

func (unreadable) letter(context.Context, uuid.UUID) (stored, []failure, []auditEntry, error) {
	return stored{}, nil, nil, io.ErrUnexpectedEOF
}

// compute-ma that hangs costs a replay of one letter less than its lease, and the platform's 25 s.
func TestAReplayToAFunctionThatHangsIsBounded(t *testing.T) {
	t.Parallel()
	require.Less(t, verdictWait, replayLease)
	b := setup(t)
	b.save(t, "A", 1)
	hanging := make(chan struct{})
	b.target.answer = func(*http.Request) (int, string) { <-hanging; return 204, "" }
	t.Cleanup(func() { close(hanging) })
	began := time.Now()
	status, l := b.do(t, http.MethodPost, "/dlq/messages/"+b.id(t, "A")+"/replay", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Less(t, time.Since(began), replayLease)
	require.Equal(t, 1, b.count(t, "select count(*) from dead_letters where status = 'open' and replay_count = 0"))
}
