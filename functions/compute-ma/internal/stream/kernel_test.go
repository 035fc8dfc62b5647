package stream_test

import (
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/service"
)

// What a client does not take is dropped by the hub, which knows what is newer, and does not grow old in the kernel.
func TestTheKernelKeepsLittleForAClient(t *testing.T) {
	t.Parallel()
	b := setup(t, 10, time.Minute)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted := make(chan net.Conn, 1)
	server := service.NewServer(b.srv.Handler(), slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(service.Bounded(watched{listener, accepted}, service.Seats)) }()
	t.Cleanup(func() { _ = server.Close() })

	resp, err := http.Get("http://" + listener.Addr().String() + "/averages/stream?symbols=A")
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	raw, err := (<-accepted).(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var size int
	require.NoError(t, raw.Control(func(fd uintptr) { size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF) }))
	require.NoError(t, err)
	require.LessOrEqual(t, size, 64<<10)
}

// watched hands out the connections that it accepts.
type watched struct {
	net.Listener
	accepted chan<- net.Conn
}

func (w watched) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err == nil {
		w.accepted <- c
	}
	return c, err
}
