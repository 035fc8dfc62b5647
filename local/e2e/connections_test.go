//go:build integration

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
	"marketdata/shared/redisclient"
	"marketdata/shared/testenv"
	"marketdata/shared/testenv/certs"
)

// tour goes once through the system: a price and its average, a polling job, and a dead letter that is corrected.
func tour(t *testing.T, s *stack) {
	t.Helper()
	gate := s.env["GATEWAY_URL"]
	for function, u := range map[string]string{"get-latest": s.env["GET_LATEST_URL"], "poll": s.env["POLL_URL"], "compute-ma": s.env["COMPUTE_MA_URL"], "dlq-inspector": s.env["DLQ_INSPECTOR_URL"]} {
		require.Eventually(t, func() bool { // on a busy machine, a check may be late
			status, body, _ := call(t, http.MethodGet, u+"/readyz?verbose", "")
			return status == http.StatusOK && !strings.Contains(string(body), "unavailable")
		}, 20*time.Second, 100*time.Millisecond, function)
	}
	status, price := s.get(t, "/prices/latest?symbol=AAPL&provider=yfinance")
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool {
		status, average := s.get(t, "/averages/latest?symbol=AAPL&provider=yfinance&window=5")
		return status == http.StatusOK && average["as_of"] == price["timestamp"]
	}, 10*time.Second, 20*time.Millisecond)
	for _, path := range []string{"/prices/history?symbol=AAPL&provider=yfinance", "/averages/history?symbol=AAPL&provider=yfinance&window=1", "/averages/history?symbol=AAPL&provider=yfinance&window=1&kind=ema"} {
		status, _ := s.get(t, path)
		require.Equal(t, http.StatusOK, status, path)
	}

	status, body, _ := call(t, http.MethodPost, gate+"/prices/poll", `{"symbols":["MSFT"],"interval":5,"provider":"yfinance"}`, "Content-Type", "application/json", "Idempotency-Key", "a")
	require.Equal(t, http.StatusAccepted, status, string(body))
	s.eventually(t, []string{"true"}, "select (count(*) > 0)::text from price_points where symbol = 'MSFT'")

	s.produce(t, event("POISON", "-1", "2024-03-20T10:30:00Z", "x", uuid.New()), &kafka.Message{Value: []byte("not JSON")})
	s.eventually(t, []string{"2"}, "select count(*)::text from dead_letters")
	operator := []string{"Authorization", "Bearer " + s.env["DLQ_TOKEN"], "Content-Type", "application/json"}
	for _, path := range []string{"/dlq/messages?symbol=POISON", "/dlq/messages?q=json", "/dlq/groups", "/dlq/stats"} {
		status, body, _ := call(t, http.MethodGet, gate+path, "", operator...)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
	}
	id := s.rows(t, "select id::text from dead_letters where symbol = 'POISON'")[0]
	status, body, _ = call(t, http.MethodPost, gate+"/dlq/messages/"+id+"/replay", fmt.Sprintf(`{"value":%q,"reason":"typo"}`, event("POISON", "1", "2024-03-20T10:30:00Z", "x", uuid.New()).Value), operator...)
	require.Less(t, status, 300, string(body))
	s.eventually(t, []string{"1 1"}, "select concat_ws(' ', price, correction) from price_points where symbol = 'POISON'")
	status, body, _ = call(t, http.MethodPost, gate+"/dlq/replays", fmt.Sprintf(`{"filter":{"topic":%q},"reason":"again"}`, s.topics().Events), operator...)
	require.Equal(t, http.StatusAccepted, status, string(body))
	s.eventually(t, []string{"completed"}, "select status from dead_letter_replays")
}

// PgBouncer in transaction mode gives each transaction another session.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	t.Run("with a mode, and one user for all functions", func(t *testing.T) {
		t.Parallel()
		tour(t, start(t, newDir(t), "DATABASE_URL="+testenv.Pooler(t, testenv.PostgresURL(t))+"&default_query_exec_mode=simple_protocol"))
	})
	t.Run("by default, with a user for each function", func(t *testing.T) {
		t.Parallel()
		direct := testenv.PostgresURL(t)
		urls, variables := []string{direct}, []string{"DATABASE_URL"}
		for function, own := range testenv.Users(t, direct) {
			urls, variables = append(urls, own), append(variables, roles.Variable(function))
		}
		for i, pooled := range testenv.Poolers(t, urls...) {
			variables[i] += "=" + pooled
		}
		tour(t, start(t, newDir(t), variables...))
	})
}

// The services as a company runs them: Postgres and Redis with TLS and certificates of its own authority, Redis with a user of its own,
// topics and consumer groups with names after its rules.
func TestServicesOfACompany(t *testing.T) {
	t.Parallel()
	authority, err := certs.New("a company")
	require.NoError(t, err)
	pair, err := authority.Issue("server")
	require.NoError(t, err)
	services := startParts(t, newDir(t), "services", "PGBOUNCER=0") // whose own certificate would count
	owner := owner(t, filepath.Join(services.dir, "postgres"))
	dir, err := os.MkdirTemp("/var/tmp", "marketdata-tls-") //nolint:usetesting // Postgres' user cannot enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	authorities := filepath.Join(dir, "authorities")
	require.NoError(t, os.Mkdir(authorities, 0o755))
	for name, text := range map[string][]byte{"authorities/ca.pem": authority.PEM, "server.pem": pair.Certificate, "server.key": pair.Key} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		require.NoError(t, os.Chown(path, owner, -1))
	}

	for _, q := range []string{
		"alter system set ssl = on", fmt.Sprintf("alter system set ssl_cert_file = '%s/server.pem'", dir),
		fmt.Sprintf("alter system set ssl_key_file = '%s/server.key'", dir), "select pg_reload_conf()",
	} {
		_, err := services.pool.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	database, err := url.Parse(services.env["DATABASE_URL"])
	require.NoError(t, err)
	database.RawQuery = "sslmode=verify-full&sslrootcert=" + url.QueryEscape(filepath.Join(authorities, "ca.pem"))
	redisURL := startRedisTLS(t, dir)

	stackDir := newDir(t)
	extra := namesIn(stackDir)
	for function, own := range users(t, services) {
		one := *database
		one.User = own
		extra = append(extra, roles.Variable(function)+"="+one.String())
	}
	s := start(t, stackDir, append(extra, "DATABASE_URL="+database.String(), "REDIS_URL="+redisURL, "SSL_CERT_DIR="+authorities)...)
	require.NotEqual(t, priceevent.DefaultTopics, s.topics())
	tour(t, s)
	services.pool.Close() // without TLS
	s.eventually(t, []string{"0"}, "select count(*)::text from pg_stat_activity join pg_stat_ssl using (pid) where backend_type = 'client backend' and not ssl")

	other, err := certs.New("somebody else")
	require.NoError(t, err)
	foreign := filepath.Join(dir, "foreign.pem")
	require.NoError(t, os.WriteFile(foreign, other.PEM, 0o600))
	database.RawQuery = "sslmode=verify-full&sslrootcert=" + url.QueryEscape(foreign)
	pool, err := postgres.OpenLater(database.String())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.ErrorContains(t, pool.Ping(t.Context()), "certificate signed by unknown authority")
	refused, err := redisclient.Open(strings.Replace(redisURL, "hunter2", "wrong", 1) + "?skip_verify=true")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, refused.Close()) })
	require.ErrorContains(t, refused.Ping(t.Context()).Err(), "WRONGPASS")
}

// users returns the users of the functions on the Postgres of a stack.
func users(t *testing.T, s *stack) map[string]*url.Userinfo {
	t.Helper()
	own := map[string]*url.Userinfo{}
	for _, function := range roles.Functions {
		password, err := os.ReadFile(filepath.Join(s.dir, function+".password"))
		require.NoError(t, err)
		own[function] = url.UserPassword(strings.ReplaceAll(function, "-", "_"), strings.TrimSpace(string(password)))
	}
	return own
}

func owner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return int(stat.Uid)
}

// startRedisTLS starts a Redis with the certificate in dir and one user, and returns its URL.
func startRedisTLS(t *testing.T, dir string) string {
	t.Helper()
	program := testenv.Installed(t, "redis-server", "redis-server")
	port := testenv.FreePort(t)
	config := filepath.Join(dir, "redis.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "port 0\nbind 127.0.0.1\ntls-port %d\ntls-cert-file %s/server.pem\ntls-key-file %s/server.key\n"+
		"tls-ca-cert-file %s/authorities/ca.pem\ntls-auth-clients no\nsave \"\"\nmaxmemory-policy noeviction\ndir %s\n"+
		"user default off\nuser marketdata on >hunter2 ~* +@all -@admin -@dangerous\n", port, dir, dir, dir, dir), 0o600))
	testenv.Run(t, exec.Command(program, config))
	address := fmt.Sprintf("rediss://marketdata:hunter2@127.0.0.1:%d/0", port)
	options, err := redis.ParseURL(address + "?skip_verify=true")
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // only pinged
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
	return address
}
