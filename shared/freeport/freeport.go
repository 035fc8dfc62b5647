// Package freeport finds ports for child processes, for the local runtime and tests. A server in this process needs none: it listens
// on port 0 and keeps its listener.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Find returns a TCP port of 127.0.0.1 that was free a moment ago.
func Find(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("find a free port: not a TCP address")
	}
	return addr.Port, nil
}
