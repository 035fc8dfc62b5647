package deploy_test

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sharedImports returns the imports of each shared package among the others, from go list.
func sharedImports(t *testing.T) map[string][]string {
	t.Helper()
	const prefix = "marketdata/shared/"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./shared/...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err)
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		name := strings.TrimPrefix(paths[0], prefix)
		imports[name] = []string{}
		for _, path := range paths[1:] {
			if other, ok := strings.CutPrefix(path, prefix); ok {
				imports[name] = append(imports[name], other)
			}
			require.NotRegexp(t, "^marketdata/(functions|local)", path, "imported by %s", name)
		}
	}
	return imports
}

var row = regexp.MustCompile(`(?m)^\| \[([a-z/0-9]+)\]\(([a-z/0-9]+)\) \| [^|]+ \| ?(.*)\|$`)

func TestTableOfSharedPackagesMatchesTheCode(t *testing.T) {
	t.Parallel()
	listed := map[string][]string{}
	for _, cells := range row.FindAllStringSubmatch(read(t, "../shared/README.md"), -1) {
		require.Equal(t, cells[1], cells[2], "the link of %s", cells[1])
		names := []string{}
		for _, name := range strings.Fields(cells[3]) {
			name = strings.Trim(name, "`")
			require.Contains(t, listed, name, "%s imports %s, which must be above it in the table", cells[1], name)
			names = append(names, name)
		}
		listed[cells[1]] = names
	}
	require.Equal(t, sharedImports(t), listed)
}

func TestFunctionsImportNoFunction(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{$at := .ImportPath}}{{range .Imports}}{{$at}} {{.}}{{"\n"}}{{end}}`, "./functions/...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		if len(paths) < 2 || !strings.HasPrefix(paths[1], "marketdata/") || strings.HasPrefix(paths[1], "marketdata/shared/") {
			continue
		}
		function := strings.Join(strings.Split(paths[0], "/")[:3], "/")
		require.True(t, strings.HasPrefix(paths[1], function+"/"), line)
	}
}

// Every test that the README calls a proof exists.
func TestEveryGuaranteeHasItsTest(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(read(t, "../README.md"), "\n## Guarantees\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	tests := ""
	for _, folder := range []string{"functions", "shared", "local"} {
		require.NoError(t, filepath.WalkDir("../"+folder, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, "_test.go") {
				tests += read(t, path)
			}
			return err
		}))
	}
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.Contains(line, "---") || strings.Contains(line, "| test |") {
			continue
		}
		rows++
		proofs := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(cells[2], -1)
		require.NotEmpty(t, proofs, line)
		for _, proof := range proofs {
			require.Contains(t, tests, "\nfunc "+proof[1]+"(", "the proof of: %s", line)
		}
	}
	require.Greater(t, rows, 5)
}

// functions/README.md names the owner of every table.
func TestEveryTableHasAnOwner(t *testing.T) {
	t.Parallel()
	readme := read(t, "../functions/README.md")
	files, err := filepath.Glob("../shared/postgres/migrations/*.sql")
	require.NoError(t, err)
	tables := 0
	for _, file := range files {
		for _, found := range regexp.MustCompile(`(?m)^create (?:table|view) (\w+)`).FindAllStringSubmatch(read(t, file), -1) {
			tables++
			require.Equal(t, 1, strings.Count(readme, "`"+found[1]+"`"), found[1])
		}
	}
	require.Positive(t, tables)
}
