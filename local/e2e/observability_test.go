//go:build integration

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"marketdata/shared/testenv"
)

const observability = "../../deploy/observability"

// A Prometheus with the configuration of deploy/observability scrapes a stack that does a bit of everything: each query of the dashboard
// and of the rules has a result, and the metrics of each program keep to Prometheus' conventions.
func TestObservability(t *testing.T) {
	t.Parallel()
	program := testenv.Installed(t, "prometheus", "prometheus")
	s := start(t, newDir(t), "YFINANCE_BUDGET=1000/1m", "PING_JITTER_SEED=0")
	p := startPrometheus(t, program, s)

	since := time.Now().UTC().AddDate(0, 0, -30).Format(time.DateOnly)
	s.backfill(t, fmt.Sprintf(`{"symbols":["MSFT"],"provider":"yfinance","interval":"1d","start":%q}`, since))
	status, body, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/prices/poll", `{"symbols":["IBM"],"interval":5}`, "Content-Type", "application/json")
	require.Equal(t, http.StatusAccepted, status, string(body))
	for range 2 {
		status, body, _ = call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL", "")
		require.Equal(t, http.StatusOK, status, string(body))
	}
	s.produce(t, &kafka.Message{Value: []byte(badPrice("WATCHED", "1"))})

	for name, expr := range expressions(t) {
		p.await(t, name, expr)
	}
	p.await(t, "the alert of the dead letter", `ALERTS{alertname="DeadLettersArrive",alertstate="firing"}`)
	require.Empty(t, p.query(t, `ALERTS{alertstate="firing",alertname!="DeadLettersArrive"}`))
	followsConventions(t, s)
}

// followsConventions checks what each program exposes with promtool, whose linter wants a HELP text for every metric.
func followsConventions(t *testing.T, s *stack) {
	t.Helper()
	promtool := testenv.Installed(t, "promtool", "prometheus")
	for _, program := range []string{"GATEWAY", "GET_LATEST", "POLL", "COMPUTE_MA", "DLQ_INSPECTOR"} {
		status, text, _ := call(t, http.MethodGet, s.env[program+"_URL"]+"/metrics", "")
		require.Equal(t, http.StatusOK, status)
		require.Regexp(t, `\nmarketdata_build_info\{version="[^"]+",revision="[0-9a-f]+",goversion="go1\.[^"]+"\} 1\n`, string(text))
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(string(text))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", program, out)
		require.Empty(t, string(out), program)
	}
}

var comparison = regexp.MustCompile(` (>|<|==) `)

// expressions returns the queries of the dashboard and of the rules by what they are for. A comparison of a rule becomes one that is
// always answered.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var rules struct {
		Groups []struct {
			Rules []struct{ Record, Alert, Expr string }
		}
	}
	text, err := os.ReadFile(filepath.Join(observability, "rules.yml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &rules))
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			all["rule "+rule.Record+rule.Alert] = comparison.ReplaceAllString(rule.Expr, " $1 bool ")
		}
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	text, err = os.ReadFile(filepath.Join(observability, "grafana/dashboards/marketdata.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &board))
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all["panel "+panel.Title+" "+target.RefID] = strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
		}
	}
	require.Greater(t, len(all), 50)
	return all
}

// prometheus is the address of a running Prometheus.
type prometheus string

// startPrometheus starts a Prometheus that scrapes the stack every half a second, and otherwise as deploy/observability says.
func startPrometheus(t *testing.T, program string, s *stack) prometheus {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(observability, "prometheus.yml"))
	require.NoError(t, err)
	rules, err := filepath.Abs(filepath.Join(observability, "rules.yml"))
	require.NoError(t, err)
	gateway, err := url.Parse(s.env["GATEWAY_URL"])
	require.NoError(t, err)
	config := strings.NewReplacer(
		"localhost:8000", gateway.Host, "[rules.yml]", "["+rules+"]", "scrape_interval: 5s", "scrape_interval: 500ms, scrape_timeout: 500ms",
		"evaluation_interval: 15s", "evaluation_interval: 1s", "refresh_interval: 5s", "refresh_interval: 500ms",
	).Replace(string(text))
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "prometheus.yml"), []byte(config), 0o600))
	address := fmt.Sprint("127.0.0.1:", testenv.FreePort(t))
	testenv.Run(t, exec.Command(program, "--config.file="+filepath.Join(folder, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+address, "--log.level=warn"))
	return prometheus("http://" + address)
}

// query returns the values of a query's result.
func (p prometheus) query(t *testing.T, expr string) (values []string) {
	t.Helper()
	resp, err := http.Get(string(p) + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil // it starts
	}
	defer resp.Body.Close() //nolint:errcheck // read
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value [2]any } }
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil // as above, and says so in plain text
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(t, "success", answer.Status, "%s: %s", expr, answer.Error)
	for _, series := range answer.Data.Result {
		values = append(values, fmt.Sprint(series.Value[1]))
	}
	return values
}

// await waits until a query has a number among its results.
func (p prometheus) await(t *testing.T, name, expr string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(p.query(t, expr), func(value string) bool { return value != "NaN" })
	}, 30*time.Second, 100*time.Millisecond, "%s: %s", name, expr)
}
