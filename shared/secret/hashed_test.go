package secret_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/secret"
)

func entry(name, plain, rest string) string {
	sum := sha256.Sum256([]byte(plain))
	return name + ":" + hex.EncodeToString(sum[:]) + rest
}

func TestFindHashed(t *testing.T) {
	t.Parallel()
	list := []string{
		entry("anna", "a-old", ""), " " + entry("anna", "a-new", ""), entry("Jörg <j@example.org>", "j", ":x:y"), entry("empty", "", ""),
	}
	all, err := secret.ParseHashes("TOKENS", strings.Join(list, ","), func(secret.Hashed) error { return nil })
	require.NoError(t, err)
	all = append(all, secret.Hash("shared", "s"))
	for sent, want := range map[string]string{"a-old": "anna", "a-new": "anna", "j": "Jörg <j@example.org>", "s": "shared"} {
		h, found := all.Find(sent)
		require.True(t, found, sent)
		require.Equal(t, want, h.Name)
	}
	j, _ := all.Find("j")
	require.Equal(t, "x:y", j.Rest)
	for _, sent := range []string{"", "A-NEW", "a-new ", "anna", hex.EncodeToString(make([]byte, 32))} {
		_, found := all.Find(sent)
		require.False(t, found, sent)
	}
	none, err := secret.ParseHashes("TOKENS", " ", nil)
	require.NoError(t, err)
	_, found := none.Find("x")
	require.False(t, found)
}

func TestBadHashedIsReportedWithoutIt(t *testing.T) {
	t.Parallel()
	const malformed = "is not a name, a colon and a SHA-256 in hex"
	hash := strings.Repeat("ab", sha256.Size)
	for name, c := range map[string]struct{ entry, want string }{
		"plain secret":        {"hunter2", malformed},
		"plain after name":    {"hunter2:hunter2", malformed},
		"plain after hash":    {"hunter2:" + hash + ":hunter2", malformed},
		"nothing after colon": {"hunter2:" + hash + ":", malformed},
		"short hash":          {"hunter2:" + hash[2:], malformed},
		"no name":             {":" + hash, malformed},
		"long name":           {strings.Repeat("n", 65) + ":" + hash, malformed},
		"control character":   {"hunter2\x00:" + hash, malformed},
		"invalid UTF-8":       {"hunter2\xff:" + hash, malformed},
		"empty":               {"", malformed},
		"repeated secret":     {entry("hunter2", "good", ""), "repeats the secret of another entry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, err := secret.ParseHashes("TOKENS", entry("good", "good", "")+","+c.entry, nil)
			require.EqualError(t, err, "TOKENS: entry 2 "+c.want)
			require.Len(t, all, 1)
		})
	}
	all, err := secret.ParseHashes("TOKENS", entry("a", "a", ":5/1m")+","+entry("b", "b", ":no"), func(h secret.Hashed) error {
		if h.Rest == "no" {
			return errors.New("has a bad rest")
		}
		return nil
	})
	require.EqualError(t, err, "TOKENS: entry 2 has a bad rest")
	require.Len(t, all, 1)
}
