package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sample = `package x

import "context"

const query = "delete from t where a < 1 limit 10 for update skip locked"

var table = []row{{1, "a"}, {2, "b"}}

func f(ctx context.Context, n int) int {
	if n < 3 && !even(n) {
		n++
		log.Info("odd")
	}
	switch n {
	case 1, 2:
		g(context.WithoutCancel(ctx), options{A: n, B: n})
	}
	return min(n, 9)
}
`

func TestEveryChangeIsMadeAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.go")
	require.NoError(t, os.WriteFile(path, []byte(sample), 0o600))
	all, err := mutationsOf(path)
	require.NoError(t, err)
	var changes []string
	for _, m := range all {
		change, found := strings.CutPrefix(m.String(), fmt.Sprintf("x.go:%d  ", m.line))
		require.True(t, found)
		changes = append(changes, change)
		_, err := parser.ParseFile(token.NewFileSet(), path, m.applied(), 0)
		require.NoError(t, err, m.String())
		require.Equal(t, m.line, 1+strings.Count(sample[:m.from], "\n"))
	}
	require.ElementsMatch(t, []string{
		"`<` → `<=`", "`limit 10` → ``", "`for update skip locked` → ``", "`skip locked` → ``",
		"`n < 3 && !even(n)` → `false && (n < 3 && !even(n))`", "`n < 3 && !even(n)` → `true || (n < 3 && !even(n))`",
		"`&& !even(n)` → ``", "`n < 3 &&` → ``", "`<` → `<=`", "`3` → `(3 + 1)`", "`!` → ``", "`n++` → ``",
		"`1,` → ``", "`, 2` → ``", "`1` → `(1 + 1)`", "`2` → `(2 + 1)`",
		"`g(context.WithoutCancel(ctx), options{A: n, B: n})` → ``", "`context.WithoutCancel(ctx)` → `ctx`",
		"`A: n,` → ``", "`, B: n` → ``", "`min(n, 9)` → `n`", "`9` → `(9 + 1)`",
	}, changes)
}
