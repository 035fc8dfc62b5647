// Package freeport finds ports for child processes, for the local runtime and tests. A server in this process needs none: it listens
// on port 0 and keeps its listener.
package freeport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are below those that systems give to outgoing connections (Linux: from 32768). A connection of anybody could take one of those
// before the child listens on it, and keep it for minutes.
const lowest, highest = 20_000, 32_767

const attempts = 100

// Find returns a TCP port of 127.0.0.1 that was free a moment ago. Two callers rarely get the same one. Safe for concurrent use.
func Find(ctx context.Context) (port int, err error) {
	for range attempts {
		port = lowest + rand.IntN(highest-lowest+1)
		var l net.Listener
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
