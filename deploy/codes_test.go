package deploy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
)

// inner are codes that no caller sees: a layer above acts on them, or wraps them with a code of its own.
var inner = []string{
	fault.CodeRecordGone, fault.CodeMessageTooLarge, fault.CodeBrokerUnavailable, fault.CodeNotFound, fault.CodeReplayUnderWay,
	fault.CodeCancelled, fault.CodeClientClosed, fault.CodeReadOnly,
}

// made is a call of fault.New or fault.Wrap.
type made struct{ code, kind, at string }

// faults finds the codes of all faults in the code. A code is a constant of package fault, or that of another fault.
func faults(t *testing.T) (all []made) {
	t.Helper()
	set, constants := token.NewFileSet(), map[string]string{}
	var files []*ast.File // the constants may come after their use
	for _, root := range []string{"../functions", "../shared", "../local"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(set, path, nil, 0)
			require.NoError(t, err)
			files = append(files, f)
			ast.Inspect(f, func(n ast.Node) bool {
				if v, ok := n.(*ast.ValueSpec); ok {
					for i, value := range v.Values {
						if text, ok := literal(value); ok && f.Name.Name == "fault" {
							constants["fault."+v.Names[i].Name] = text
						}
					}
				}
				return true
			})
			return nil
		}))
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, args := qualified(call.Fun, ""), call.Args
			if name == "fault.Wrap" {
				args = args[1:]
			} else if name != "fault.New" {
				return true
			}
			_, written := literal(args[1])
			require.False(t, written, "%s: use the constant of package fault", set.Position(call.Pos()))
			code := constants[qualified(args[1], f.Name.Name)]
			if kind := qualified(args[0], ""); code != "" && strings.HasPrefix(kind, "fault.") {
				all = append(all, made{code, strings.TrimPrefix(kind, "fault."), set.Position(call.Pos()).String()})
			}
			return true
		})
	}
	return all
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(l.Value)
	return text, err == nil
}

// qualified returns package and name of an identifier; one without a package is of the given one.
func qualified(e ast.Expr, of string) string {
	switch e := e.(type) {
	case *ast.Ident:
		return of + "." + e.Name
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name
		}
	}
	return ""
}

// Every code in the code is in the table, with its kind, and every code of the table is in the code.
func TestTheTableOfCodesIsTheCode(t *testing.T) {
	t.Parallel()
	kinds := map[string]fault.Kind{}
	for _, c := range slices.Concat(problem.Codes, problem.EventCodes) {
		require.NotContains(t, kinds, c.Name, "once")
		kinds[c.Name] = c.Kind
	}
	names := map[string]fault.Kind{
		"Internal": fault.Internal, "Invalid": fault.Invalid, "NotFound": fault.NotFound, "Conflict": fault.Conflict, "Limited": fault.Limited, "Unavailable": fault.Unavailable,
	}
	// An event that arrived incomplete is redelivered. A price that Postgres returns and that is none is a bug of ours.
	otherKind := map[made]bool{{code: "incomplete_request", kind: "Unavailable"}: true, {code: "invalid_price", kind: "Internal"}: true}
	used := map[string]bool{}
	for _, m := range faults(t) {
		used[m.code] = true
		if slices.Contains(inner, m.code) || otherKind[made{code: m.code, kind: m.kind}] {
			continue
		}
		require.Contains(t, kinds, m.code, m.at)
		require.Equal(t, kinds[m.code], names[m.kind], "%s: the kind of %s", m.at, m.code)
	}
	for _, name := range inner {
		require.True(t, used[name], "nothing uses %s", name)
	}
	for name := range kinds {
		if name != "method_not_allowed" { // the mux answers so
			require.True(t, used[name], "nothing uses %s", name)
		}
	}
}

// The README's table has every code once, with its status and meaning.
func TestTheReadmeListsEveryCode(t *testing.T) {
	t.Parallel()
	readme := read(t, "../README.md")
	section := readme[strings.Index(readme, "\n## Errors"):strings.Index(readme, "\n## Metrics")]
	rows := regexp.MustCompile("(?m)^\\| (`.+`) \\| (.+) \\| (.+) \\|$").FindAllStringSubmatch(section, -1)
	listed := map[string]bool{}
	for _, row := range rows {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			at := slices.IndexFunc(problem.Codes, func(c problem.Code) bool { return c.Name == name[1] })
			require.GreaterOrEqual(t, at, 0, name[1])
			require.Contains(t, row[2], strconv.Itoa(problem.Codes[at].Status), name[1])
			require.Equal(t, problem.Codes[at].Meaning, row[3], name[1])
			require.False(t, listed[name[1]], "%s once", name[1])
			listed[name[1]] = true
		}
	}
	require.Len(t, listed, len(problem.Codes))
	for _, c := range problem.EventCodes {
		require.Contains(t, section, "`"+c.Name+"`")
	}
}
