package chaos

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo serves lines back, each after a prefix, until the test ends.
func echo(t *testing.T, prefix string) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // the other end is gone
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					_, _ = io.WriteString(c, prefix+lines.Text()+"\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

// talk sends a line and returns the answer, or the error of waiting for it.
func talk(t *testing.T, c net.Conn, line string, wait time.Duration) (string, error) {
	t.Helper()
	_, _ = io.WriteString(c, line+"\n") // a closed connection shows in the read
	require.NoError(t, c.SetReadDeadline(time.Now().Add(wait)))
	return bufio.NewReader(c).ReadString('\n')
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const (
	long  = 10 * time.Second
	short = 100 * time.Millisecond
)

func requireAnswer(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got, err := talk(t, c, "x", long)
	require.NoError(t, err)
	require.Equal(t, want+"\n", got)
}

// A half-open connection gives no sign of it.
func requireSilence(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := talk(t, c, "x", short)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

func requireClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := talk(t, c, "x", long)
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestFaultsOfConnections(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*proxy, net.Conn) {
		t.Helper()
		p, err := newProxy(t.Context(), echo(t, ""))
		require.NoError(t, err)
		t.Cleanup(p.close)
		before := dial(t, p)
		requireAnswer(t, before, "x")
		return p, before
	}
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		p, before := start(t)
		end := p.fail(Cut)
		requireClosed(t, before)
		requireClosed(t, dial(t, p))
		end()
		requireAnswer(t, dial(t, p), "x")
	})
	t.Run("hang", func(t *testing.T) {
		t.Parallel()
		p, before := start(t)
		end := p.fail(Hang)
		during := dial(t, p)
		requireSilence(t, before)
		requireSilence(t, during)
		end()
		requireAnswer(t, before, "x")
		requireAnswer(t, during, "x")
		requireAnswer(t, dial(t, p), "x")
	})
	t.Run("strand", func(t *testing.T) {
		t.Parallel()
		p, before := start(t)
		end := p.fail(Strand)
		requireSilence(t, before)
		requireAnswer(t, dial(t, p), "x")
		end()
		requireClosed(t, before)
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		p, before := start(t)
		end := p.fail(Slow)
		began := time.Now()
		requireAnswer(t, before, "x")
		require.GreaterOrEqual(t, time.Since(began), 2*lateBy, "both ways")
		end()
	})
	t.Run("redirect", func(t *testing.T) {
		t.Parallel()
		p, before := start(t)
		p.redirect(echo(t, "other "))
		requireClosed(t, before)
		requireAnswer(t, dial(t, p), "other x")
	})
}

func TestReplicasTakeTurnsAndADeadOneIsSkipped(t *testing.T) {
	t.Parallel()
	one, two := echo(t, "1 "), echo(t, "2 ")
	p, err := newProxy(t.Context(), one, two)
	require.NoError(t, err)
	t.Cleanup(p.close)
	seen := map[string]bool{}
	for range 2 {
		answer, err := talk(t, dial(t, p), "x", long)
		require.NoError(t, err)
		seen[answer] = true
	}
	require.Equal(t, map[string]bool{"1 x\n": true, "2 x\n": true}, seen)
	dead, err := freeAddr(t.Context())
	require.NoError(t, err)
	p.redirect(dead, two)
	for range 2 {
		requireAnswer(t, dial(t, p), "2 x")
	}
}
