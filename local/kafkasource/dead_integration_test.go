//go:build integration

package kafkasource

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// joinAndDie joins the group, and leaves the broker to wait for a leader that does nothing more.
func (w world) joinAndDie(t *testing.T, clientID string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(w.brokers.Servers(), ",")...), kgo.ClientID(clientID))
	require.NoError(t, err)
	defer client.Close()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = w.group, "consumer"
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 300_000, 300_000
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
	joined, err := join.RequestWith(t.Context(), client)
	require.NoError(t, err)
	join.MemberID = joined.MemberID // a member of a group that has just got its id joins with it
	joined, err = join.RequestWith(t.Context(), client)
	require.NoError(t, err)
	require.Zero(t, joined.ErrorCode)
	require.Equal(t, joined.MemberID, joined.LeaderID)
}

// A source that died while it joined may be the leader that its group waits for. The source that starts in its place removes it.
func TestASourceRemovesTheDeadOneInItsPlace(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.produce(t, "a")
	w.joinAndDie(t, "place")
	r, url := newReceiver(t)
	source := w.start(t, url, func(s *Spec) { s.ClientID = "place" })
	require.Equal(t, "0", r.next(t))
	r.answers <- http.StatusNoContent
	require.NoError(t, source.Close())
}

// members returns the client ids of the group's members.
func (w world) members(t *testing.T) (ids []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(w.brokers.Servers(), ",")...))
	require.NoError(t, err)
	defer client.Close()
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{w.group}
	described, err := describe.RequestWith(t.Context(), client)
	require.NoError(t, err)
	for _, m := range described.Groups[0].Members {
		ids = append(ids, m.ClientID)
	}
	return ids
}

func TestOnlyMembersWithTheClientIDLeave(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.joinAndDie(t, "place-10")
	spec := Spec{Kafka: w.brokers, ConsumerGroup: w.group, ClientID: "place-1"}
	require.NoError(t, leave(t.Context(), spec))
	require.Equal(t, []string{"place-10"}, w.members(t))
	spec.ClientID = "place-10"
	require.NoError(t, leave(t.Context(), spec))
	require.Empty(t, w.members(t))
}
