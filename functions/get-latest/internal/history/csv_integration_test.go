//go:build integration

package history

import (
	"bufio"
	"encoding/csv"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

// More than the buffers of the two sockets hold, so that the server waits for a client that does not read.
const manyPoints = 200_000

func serveHistory(t *testing.T) (pool *pgxpool.Pool, url string) {
	t.Helper()
	pool = testenv.Postgres(t)
	_, err := pool.Exec(t.Context(), `
		insert into price_points (symbol, provider, observed_at, price, raw_response_id)
		select 'AAPL', 'yfinance', '2024-01-01'::timestamptz + i * interval '1 second', i + 0.5, gen_random_uuid() from generate_series(1, $1::int) i`, manyPoints)
	require.NoError(t, err)
	config := pool.Config()
	config.MaxConns = 1
	one, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(one.Close)
	s := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	(&API{&pgPoints{one}, quotesFunc(noQuote), "yfinance"}).Routes(api.New(s, "get-latest", ""), func(next http.Handler) http.Handler { return next })
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return pool, server.URL + "/prices/history?symbol=AAPL"
}

func get(t *testing.T, url string) io.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Body
}

// A client that does not read holds no connection of the database. If the database goes away meanwhile, what the client gets does not look
// complete.
func TestASlowClientAndADatabaseThatGoesAway(t *testing.T) {
	t.Parallel()
	pool, url := serveHistory(t)
	slow := get(t, url+"&format=csv")
	header, err := bufio.NewReaderSize(slow, 16).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "timestamp,price,raw_response_id\r\n", header)

	whole, err := csv.NewReader(get(t, url+"&format=csv")).ReadAll() // with the only connection
	require.NoError(t, err)
	require.Len(t, whole, 1+manyPoints)
	require.Equal(t, []string{"2024-01-03T07:33:20Z", "200000.5"}, whole[manyPoints][:2])

	_, err = pool.Exec(t.Context(), "alter table price_points rename to away")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, slow)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
