package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokerErrors are refusals that a broker may answer at any time. The two that come after the append make a producer send again what is
// on the topic already.
var brokerErrors = []struct {
	name  string
	fault kfake.Fault
}{
	{"produce: not leader", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition}},
	{"produce: timed out after the append", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}},
	{"produce: not enough replicas after the append", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend}},
	{"fetch: not leader", kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition}},
	{"commit: coordinator loads", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress}},
	{"heartbeat: rebalance", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.RebalanceInProgress}},
	{"coordinator: not available", kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable}},
}

func brokerErrorNames() (names []string) {
	for _, e := range brokerErrors {
		names = append(names, e.name)
	}
	return names
}

// ServeBroker runs the embedded broker alone, with its data in dir, until ctx ends. Requests to admin make it fail: PUT /?error=name
// answers two of three requests of a kind with an error, until DELETE.
func ServeBroker(ctx context.Context, addr, admin, dir string) error {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir))
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	defer cluster.Close()
	server := &http.Server{Addr: admin, Handler: faultsOf(cluster), ReadHeaderTimeout: time.Second}
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

func faultsOf(cluster *kfake.Cluster) http.Handler {
	var mu sync.Mutex
	var handle *kfake.FaultHandle
	clear := func() {
		if handle != nil {
			handle.Remove()
			handle = nil
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		clear()
		if r.Method == http.MethodDelete {
			return
		}
		for _, e := range brokerErrors {
			if e.name == r.URL.Query().Get("error") {
				f := e.fault
				f.Count, f.When = -1, func(kmsg.Request) bool { return rand.IntN(3) > 0 }
				handle = cluster.Fault(f)
				return
			}
		}
		http.Error(w, "no such error", http.StatusBadRequest)
	})
}
