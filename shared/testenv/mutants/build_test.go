package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const switchedSample = `package x

type list[T comparable] struct{ items []T }

func (l *list[T]) add(item T, _ int, more ...T) (n int) {
	if len(l.items) < 3 {
		l.items = append(l.items, item)
	}
	return len(l.items) + len(more)
}

func first[A, B any](A, B) int { return 1 }

func (list[T]) done() {
	n := 2
	first(n, 3)
}

func guard() {
	if recover() != nil {
		first(4, 5)
	}
}

var five = 5
`

// Every mutant of a function is in the program once, and the function calls it. An error of the compiler is that of the mutant in its line.
func TestFunctionsCallTheirMutants(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.go")
	require.NoError(t, os.WriteFile(path, []byte(switchedSample), 0o600))
	all, err := mutationsOf(path)
	require.NoError(t, err)
	s, err := newSwitched(path)
	require.NoError(t, err)
	within, homes := map[int]bool{}, map[int]string{}
	for i, m := range all {
		home := s.add(i, m)
		within[i], homes[i] = home != "", home
		body := m.line < 18 && m.line != 12 || m.line == 12 && strings.Contains(m.String(), "1 + 1")
		require.Equal(t, body, within[i], "%s: not of a function that recovers, nor of a variable", m)
	}
	owners := map[string]int{}
	text := s.text(owners)
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "x.go", text, 0)
	require.NoError(t, err, text)

	lines := strings.Split(text, "\n")
	for i, line := range strings.Split(switchedSample, "\n") {
		require.Contains(t, lines[i], strings.TrimSpace(line[strings.LastIndex(line, "{")+1:]), "lines keep their numbers")
	}
	invalid := map[int]bool{}
	config := types.Config{Error: func(err error) {
		e, ok := err.(types.Error) //nolint:errorlint // not wrapped
		require.True(t, ok)
		index, ok := owners[fmt.Sprint("x.go:", files.Position(e.Pos).Line)]
		require.True(t, ok, e)
		invalid[index] = true
	}}
	chosen, err := parser.ParseFile(files, "chosen.go", "package x\nfunc mutantIn(string) int { return 0 }", 0)
	require.NoError(t, err)
	_, _ = config.Check("x", files, []*ast.File{parsed, chosen}, nil) // Error has got the errors
	for i, m := range all {
		require.Equal(t, strings.HasSuffix(m.String(), "`first(n, 3)` → ``"), invalid[i], m.String())
		if within[i] {
			require.Regexp(t, fmt.Sprintf(`mutantIn\("%s"\) .* case %d: `, regexp.QuoteMeta(homes[i]), i+1), text)
			require.Equal(t, 2, strings.Count(text, fmt.Sprint("Mutant", i+1, "("))+strings.Count(text, fmt.Sprint("Mutant", i+1, "[")), m.String())
		}
	}
}
