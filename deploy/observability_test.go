package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"marketdata/shared/testenv"
)

// alertRule is a rule of observability/rules.yml.
type alertRule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []alertRule
	}
}

func alerts(t *testing.T) (all []alertRule) {
	t.Helper()
	var file ruleFile
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "observability/rules.yml")), &file))
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				all = append(all, rule)
			}
		}
	}
	require.Greater(t, len(all), 10)
	return all
}

// promtool runs promtool in the folder observability.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Installed(t, "promtool", "prometheus"), args...)
	cmd.Dir = "observability"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// Each alert has a test in which it fires, and before that is quiet.
func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "rules_test.yml")
	tests := read(t, "observability/rules_test.yml")
	for _, alert := range alerts(t) {
		query := regexp.QuoteMeta(`count(ALERTS{alertname="` + alert.Alert + `",alertstate="firing"})`)
		require.Regexp(t, query+`', eval_time: \d+m, exp_samples: \[\]\}`, tests)
		require.Regexp(t, query+`', eval_time: \d+m, exp_samples: \[\{labels`, tests)
	}
}

// Every alert says how bad it is and what it means, and links to its section of the runbook. Every section has its alert.
func TestEveryAlertHasASectionInTheRunbook(t *testing.T) {
	t.Parallel()
	_, section, _ := strings.Cut(read(t, "RUNBOOK.md"), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var sections, named []string
	for _, heading := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(section, -1) {
		sections = append(sections, heading[1])
	}
	for _, alert := range alerts(t) {
		named = append(named, alert.Alert)
		require.Contains(t, []string{"critical", "warning", "info"}, alert.Labels["severity"], alert.Alert)
		require.NotEmpty(t, alert.Annotations["summary"], alert.Alert)
		require.NotEmpty(t, alert.Annotations["description"], alert.Alert)
		_, anchor, _ := strings.Cut(alert.Annotations["runbook_url"], "/deploy/RUNBOOK.md#")
		require.Equal(t, strings.ToLower(alert.Alert), anchor, "GitHub's anchor of the heading")
	}
	require.Equal(t, sections, named)
}

// The Prometheus operator gets the same rules.
func TestTheClusterHasTheSameRules(t *testing.T) {
	t.Parallel()
	var own, theirs map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "observability/rules.yml")), &own))
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../knative/components/monitoring/rules.yaml")), &theirs))
	require.Equal(t, "PrometheusRule", theirs["kind"])
	require.Equal(t, any(own), theirs["spec"])
}

// The two configurations differ in the address of the gateway alone.
func TestPrometheusAcceptsItsConfiguration(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"prometheus.yml", "prometheus.compose.yml"} {
		promtool(t, "check", "config", name)
	}
	after := func(name string) string {
		_, text, _ := strings.Cut(read(t, "observability/"+name), "\nglobal:")
		return text
	}
	require.Equal(t, strings.ReplaceAll(after("prometheus.yml"), "localhost:", "local:"), after("prometheus.compose.yml"))
}

// Rules and dashboard ask for metrics that exist; kafka_ and up are not ours.
func TestRulesAndDashboardNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	described, _ := families(t)
	for _, path := range []string{"observability/rules.yml", "observability/grafana/dashboards/marketdata.json"} {
		names := regexp.MustCompile(`\b(?:marketdata|http)_[a-z_]+`).FindAllString(strings.ReplaceAll(read(t, path), "_marketdata_", " "), -1)
		require.NotEmpty(t, names)
		for _, name := range names {
			name = regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if name != "marketdata_consumer_lag" { // recorded by a rule
				require.Contains(t, described, name, path)
			}
		}
	}
}

func TestTheDashboardIsTidy(t *testing.T) {
	t.Parallel()
	type panel struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr, LegendFormat string }
	}
	var board struct {
		UID    string
		Panels []panel
	}
	text := []byte(read(t, "observability/grafana/dashboards/marketdata.json"))
	require.NoError(t, json.Unmarshal(text, &board))
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range board.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, places[[2]int{x, y}], "%s overlaps", p.Title)
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" {
			require.NotEmpty(t, p.Targets, p.Title)
		}
		for _, target := range p.Targets {
			require.NotEmpty(t, target.LegendFormat, p.Title)
		}
	}
	for line := range bytes.Lines(text) {
		require.NotRegexp(t, `^\s+$|\t`, string(line))
	}
}

// docker compose mounts what is there.
func TestComposeMountsTheObservabilityFiles(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Image    string
			Profiles []string
			Ports    []string
			Volumes  []string
			Command  any
		}
		Volumes map[string]any
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../docker-compose.yml")), &compose))
	profiled := 0
	for name, service := range compose.Services {
		if len(service.Profiles) == 0 {
			continue
		}
		profiled++
		require.Equal(t, []string{"observability"}, service.Profiles, name)
		require.Regexp(t, `^[a-z/]+:v?\d+\.\d+\.\d+$`, service.Image)
		for _, port := range service.Ports {
			require.Regexp(t, `^127\.0\.0\.1:`, port, name)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, "./") {
				_, err := os.Stat(filepath.Join("..", source))
				require.NoError(t, err)
			} else {
				require.Contains(t, compose.Volumes, source)
			}
		}
	}
	require.Equal(t, 3, profiled)
	require.Contains(t, compose.Services["prometheus"].Command, "--config.file=/etc/prometheus/prometheus.compose.yml")
}
