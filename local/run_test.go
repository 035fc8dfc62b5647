package main

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/local/console"
)

func TestFailedPartLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	var printed bytes.Buffer
	var begun stops
	cfg := config{Dir: t.TempDir(), ExchangeAddr: "127.0.0.1:0", ManifestDir: t.TempDir()}
	err := start(t.Context(), cfg, map[string]bool{"exchange": true, "sources": true}, nil, console.New(&printed), &begun)
	require.ErrorContains(t, err, "no manifests in "+cfg.ManifestDir)
	require.NoFileExists(t, cfg.envPath())

	exchange := regexp.MustCompile(`providers on http://(\S+)`).FindSubmatch(printed.Bytes())
	require.Len(t, exchange, 2, printed.String())
	conn, err := net.Dial("tcp", string(exchange[1]))
	require.NoError(t, err, "the exchange began before the part that failed")
	require.NoError(t, conn.Close())
	begun.stop(t.Context())
	_, err = net.Dial("tcp", string(exchange[1]))
	require.Error(t, err)
}

func TestBalancerEndsWithItsStop(t *testing.T) {
	t.Parallel()
	only, stop, err := startBalancer(t.Context(), []string{"http://127.0.0.1:1"})
	require.NoError(t, err)
	require.Nil(t, stop)
	require.Equal(t, "http://127.0.0.1:1", only, "one replica needs no balancer")

	url, stop, err := startBalancer(t.Context(), []string{"http://127.0.0.1:1", "http://127.0.0.1:2"})
	require.NoError(t, err)
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	stop(t.Context())
	_, err = net.Dial("tcp", address)
	require.Error(t, err)
}

func TestStopsRunInReverse(t *testing.T) {
	t.Parallel()
	var order []string
	part := func(name string) stopFunc { return func(context.Context) { order = append(order, name) } }
	var begun stops
	begun.add(part("first"))
	begun.add(nil)
	begun.add(part("second"))
	begun.stop(t.Context())
	require.Equal(t, []string{"second", "first"}, order)
}

func TestChosenParts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"all":       {nil, parts},
		"empty":     {[]string{"-only="}, parts},
		"some":      {[]string{"-only=exchange,gateway"}, []string{"exchange", "gateway"}},
		"with gaps": {[]string{"-only=,services,"}, []string{"services"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			only, err := chosenParts(c.args)
			require.NoError(t, err)
			var got []string
			for _, p := range parts {
				if only[p] {
					got = append(got, p)
				}
			}
			require.Equal(t, c.want, got)
		})
	}
	_, err := chosenParts([]string{"-only=exchange,market"})
	require.EqualError(t, err, `-only: unknown part "market" (one of services, exchange, functions, sources, gateway)`)
}
