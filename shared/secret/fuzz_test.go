package secret_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"marketdata/shared/secret"
)

// FuzzParseHashes reads any list beside a good entry, which stays; errors do not show what is wrong.
func FuzzParseHashes(f *testing.F) {
	for _, text := range []string{"hunter2hunter2", entry("a", "b", ""), entry("a", "b", ":rest"), ":::", ",", "a:\x00", entry("ü\n", "b", ""), "good:" + strings.Repeat("A", 64)} {
		f.Add(text, "hunter2")
	}
	good := entry("good", "good secret", "")
	f.Fuzz(func(t *testing.T, text, sent string) {
		all, err := secret.ParseHashes("TOKENS", good+","+text, nil)
		require.NotEmpty(t, all)
		for _, h := range all {
			require.True(t, utf8.ValidString(h.Name) && h.Name != "" && len(h.Name) <= 64)
			require.NotContains(t, h.Name, "\n")
		}
		h, found := all.Find("good secret")
		require.True(t, found)
		require.Equal(t, "good", h.Name)
		if err != nil && len(text) > 20 {
			require.NotContains(t, err.Error(), text)
		}
		if _, found := all.Find(sent); found && sent != "good secret" {
			require.Contains(t, strings.ToLower(text), strings.TrimPrefix(entry("", sent, ""), ":"))
		}
	})
}
