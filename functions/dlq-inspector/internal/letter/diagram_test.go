package letter

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edge is a change of status.
type edge struct{ from, to Status }

// drawn are the edges of the diagram in the README, without the one that has no status before it.
func drawn(t *testing.T) map[edge]bool {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## The life of a letter\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	_, diagram, found := strings.Cut(section, "```mermaid\n")
	require.True(t, found)
	diagram, _, _ = strings.Cut(diagram, "```")
	out := map[edge]bool{}
	for _, line := range regexp.MustCompile(`(?m)^\s*(\w+) --> (\w+)`).FindAllStringSubmatch(diagram, -1) {
		out[edge{Status(line[1]), Status(line[2])}] = true
	}
	require.Equal(t, strings.Count(diagram, "-->"), len(out)+1, "each line is an edge of its own")
	return out
}

// The diagram in the README has the transitions of the code, and no others.
func TestTheDiagramIsTheCode(t *testing.T) {
	t.Parallel()
	coded := map[edge]bool{
		{Sent, Open}: true, // the store does this in SQL, for many letters at once, when a copy was refused
	}
	for _, from := range statuses {
		for _, transition := range transitions {
			if after, err := transition(State{Status: from, Token: &token}); err == nil {
				coded[edge{from, after.Status}] = true
			}
		}
	}
	require.Equal(t, coded, drawn(t))
}
