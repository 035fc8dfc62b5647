package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// admission is the minimum that an exact limiter does in Redis: it keeps a log of admission times, reads the oldest and adds the new
// one.
const admission = `
local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  if us - redis.call('LINDEX', KEYS[1], -1) < tonumber(ARGV[2]) then return 0 end
  redis.call('RPOP', KEYS[1])
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', us))
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[2]) / 1000)
return 1`

// hitKey is the key that the reference for a cache hit reads.
const hitKey = "load:reference"

// Serve runs the reference servers on address until ctx ends. They show what the platform costs without a function.
//
//	POST /        reads the body and answers 204; GET /count returns the number of posts
//	GET  /hit     runs the limiter's script and a GET in one pipeline, for the client in X-Forwarded-For
//	GET  /miss    calls the exchange, stores the response in one statement, and answers
//
// It prints nothing. The environment names the services, as for the functions.
func Serve(ctx context.Context, address string) error {
	var posts atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // an incomplete body counts, too
		posts.Add(1)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, posts.Load()) })
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	hit, err := hitReference(os.Getenv("REDIS_URL")) //nolint:forbidigo // a reference server, not a function
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /hit", hit)
	miss, err := missReference(ctx, os.Getenv("DATABASE_URL"), os.Getenv("EXCHANGE_URL")) //nolint:forbidigo // as above
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /miss", miss)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("serve references: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve references: %w", err)
	}
	return nil
}

func hitReference(redisURL string) (http.HandlerFunc, error) {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, errors.New("REDIS_URL is not a Redis URL")
	}
	options.PoolSize = 64
	client := redis.NewClient(options)
	script := redis.NewScript(admission)
	if err := script.Load(context.Background(), client).Err(); err != nil {
		return nil, fmt.Errorf("load script: %w", err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		pipe := client.Pipeline()
		pipe.EvalSha(r.Context(), script.Hash(), []string{"load:" + r.Header.Get("X-Forwarded-For")}, 5, 60_000_000)
		value := pipe.Get(r.Context(), hitKey)
		if _, err := pipe.Exec(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, value.Val()) // an error means that the caller went away
	}, nil
}

func missReference(ctx context.Context, databaseURL, exchangeURL string) (http.HandlerFunc, error) {
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres URL")
	}
	if _, err := pool.Exec(ctx, "create table if not exists load_reference (id bigint generated always as identity primary key, body bytea)"); err != nil {
		return nil, fmt.Errorf("create table: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := fetch(r.Context(), client, exchangeURL+"/yfinance/v8/finance/chart/"+r.URL.Query().Get("symbol"))
		if err == nil {
			_, err = pool.Exec(r.Context(), "insert into load_reference (body) values ($1)", body)
		}
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(body) // an error means that the caller went away
	}, nil
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // the exchange on loopback
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	resp, err := client.Do(req) //nolint:gosec // as above
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return b, nil
}
