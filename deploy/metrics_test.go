package deploy_test

import (
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres/roles"
)

var (
	helpText   = regexp.MustCompile(`\{(?:Name: )?"((?:marketdata|http)_\w+)", (?:Text: )?"([^"]+)"\}`)
	metricMade = regexp.MustCompile("(?:Counter|Gauge|Histogram|Uint64|Float64|Sprintf)(?:Ext)?\\((?:w, )?[\"`]((?:marketdata|http)_\\w+)")
	metricName = regexp.MustCompile(`\b(?:marketdata_|http_re)[a-z_]+`)
)

// families returns the families of metrics that the code describes, with their HELP texts, and those that it makes.
func families(t *testing.T) (described map[string]string, made map[string]bool) {
	t.Helper()
	described, made = map[string]string{}, map[string]bool{}
	for _, root := range []string{"../functions", "../shared", "../local"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text := read(t, path)
			for _, found := range helpText.FindAllStringSubmatch(text, -1) {
				require.NotContains(t, described, found[1], "described twice")
				require.Regexp(t, `^[A-Z0-9].*\.$`, found[2], found[1])
				described[found[1]] = found[2]
			}
			for _, found := range metricMade.FindAllStringSubmatch(text, -1) {
				made[found[1]] = true
			}
			return nil
		}))
	}
	require.Greater(t, len(described), 30)
	return described, made
}

// Every family has a HELP text, every text a family, and the README lists exactly these.
func TestEveryMetricIsDescribed(t *testing.T) {
	t.Parallel()
	described, made := families(t)
	names := slices.Sorted(maps.Keys(described))
	require.Equal(t, names, slices.Sorted(maps.Keys(made)))
	_, section, _ := strings.Cut(read(t, "../README.md"), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| (\x60[^|]+) \|`).FindAllStringSubmatch(section, -1) {
		listed = append(listed, metricName.FindAllString(row[1], -1)...)
	}
	slices.Sort(listed)
	require.Equal(t, names, listed)
}

// Documents and pages name only metrics that exist.
func TestDocumentsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	described, _ := families(t)
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "*.md", "*.js")
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err)
	for path := range strings.FieldsSeq(string(out)) {
		for _, name := range metricName.FindAllString(read(t, "../"+path), -1) {
			if !slices.ContainsFunc(roles.Functions, func(function string) bool { return roles.Name(function) == name }) {
				require.Contains(t, described, name, path)
			}
		}
	}
}
