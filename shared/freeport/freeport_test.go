package freeport_test

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/freeport"
)

func TestFoundPortsAreFreeAndNotThoseOfOutgoingConnections(t *testing.T) {
	t.Parallel()
	first := 49152 // by IANA
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		first, err = strconv.Atoi(strings.Fields(string(text))[0])
		require.NoError(t, err)
	}
	for range 50 {
		port, err := freeport.Find(t.Context())
		require.NoError(t, err)
		if first > 32767 {
			require.Less(t, port, first)
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() }) // those that are taken are not found again
	}
}
