package kafkasource

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// removeDead removes a consumer that was killed from its group, which would else wait until its session has ended: 10 s with Kafka, and for
// good with the embedded broker if it died while it joined, because kfake times no session of a member that it could not answer. A static
// member (group.instance.id) would take the place of the dead by itself, but a broker that lost its memory fences it, after which
// librdkafka's consumer can neither go on nor be closed.
//
// Brokers with authentication are left alone: librdkafka has no such request, and the library that has it is configured differently.
func removeDead(spec Spec, log *slog.Logger) {
	if len(spec.Kafka.Properties) > 1 { // more than the servers
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), brokerTimeoutMs*time.Millisecond)
	defer cancel()
	if err := leave(ctx, spec); err != nil {
		log.Warn("could not remove a dead consumer from its group", "source", spec.Name, "err", err)
	}
}

// leave leaves the group in the name of each member that has the client id.
func leave(ctx context.Context, spec Spec) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(spec.Kafka.Servers(), ",")...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer client.Close()
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{spec.ConsumerGroup}
	described, err := describe.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("describe group: %w", err)
	}
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group = spec.ConsumerGroup
	for _, group := range described.Groups {
		for _, m := range group.Members {
			if m.ClientID == spec.ClientID {
				member := kmsg.NewLeaveGroupRequestMember()
				member.MemberID = m.MemberID
				request.Members = append(request.Members, member)
			}
		}
	}
	if len(request.Members) == 0 {
		return nil
	}
	left, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("leave group: %w", err)
	}
	return kerr.ErrorForCode(left.ErrorCode) // a member that is gone meanwhile is no error
}
