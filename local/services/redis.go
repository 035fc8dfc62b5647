package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"marketdata/local/process"
	"marketdata/shared/freeport"
)

func startRedis(ctx context.Context, o Options) (url string, stop func(context.Context), err error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if binary, err := exec.LookPath(name); err == nil {
			return startRedisServer(ctx, o, name, binary)
		}
	}
	return startMiniredis(o)
}

func startRedisServer(ctx context.Context, o Options, name, binary string) (url string, stop func(context.Context), err error) {
	dir := filepath.Join(o.Dir, "redis")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", nil, fmt.Errorf("create data folder of redis: %w", err)
	}
	port, err := freeport.Find(ctx)
	if err != nil {
		return "", nil, err
	}
	log, err := logFile(o, "redis")
	if err != nil {
		return "", nil, err
	}
	p, err := process.Start(process.Options{
		Name: name,
		Command: func() *exec.Cmd {
			// noeviction: evicting the log of a limiter would admit too many requests.
			cmd := exec.Command(binary, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, //nolint:gosec,noctx // found on PATH; ended by Stop
				"--save", "60 1", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no")
			cmd.Stdout, cmd.Stderr = log, log
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: 5 * time.Second, Orphan: syscall.SIGTERM, Say: o.Say,
	})
	if err != nil {
		return "", nil, err
	}
	stop = func(ctx context.Context) { p.Stop(ctx); _ = log.Close() }
	url = fmt.Sprintf("redis://127.0.0.1:%d/0", port)
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port), MaxRetries: -1})
	defer client.Close() //nolint:errcheck // only pinged
	if err := await(ctx, 10*time.Second, func(ctx context.Context) error { return client.Ping(ctx).Err() }); err != nil {
		return "", stop, fmt.Errorf("redis does not answer: %w\n%s", err, tail(log.Name(), 5))
	}
	o.Say("redis: " + binary + " on 127.0.0.1:" + strconv.Itoa(port))
	return url, stop, nil
}

// startMiniredis starts miniredis in this process, for machines without a Redis. Its data is lost when the process ends.
func startMiniredis(o Options) (url string, stop func(context.Context), err error) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return "", nil, fmt.Errorf("start miniredis: %w", err)
	}
	// Its keys expire only when FastForward is called.
	const step = 100 * time.Millisecond
	tick, done := time.NewTicker(step), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				server.FastForward(step)
			}
		}
	}()
	stop = func(context.Context) { tick.Stop(); close(done); server.Close() }
	o.Say("redis: no redis-server on PATH, so miniredis in this process (expiry in steps of 0.1 s) on " + server.Addr())
	return "redis://" + server.Addr() + "/0", stop, nil
}
