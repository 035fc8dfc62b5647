package service_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/service"
)

// upper is a secret of a type that decodes itself.
type upper struct{ text string }

func (u *upper) UnmarshalText(text []byte) error {
	u.text = strings.ToUpper(string(text))
	return nil
}

type secrets struct {
	Part struct {
		Password service.Secret `envconfig:"TEST_PASSWORD"`
	}
	Plain  string         `envconfig:"TEST_PLAIN" secret:"true"`
	Upper  upper          `envconfig:"TEST_UPPER" secret:"true"`
	Public string         `envconfig:"TEST_PUBLIC"`
	Other  service.Secret `ignored:"true"`
}

func (secrets) Validate() error { return nil }

func TestSecretsComeFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	missing := filepath.Join(dir, "missing")
	for name, c := range map[string]struct {
		env  map[string]string
		want secrets
		err  string
	}{
		"variables":               {env: map[string]string{"TEST_PLAIN": "p", "TEST_UPPER": "u"}, want: secrets{Plain: "p", Upper: upper{"U"}}},
		"files":                   {env: map[string]string{"TEST_PLAIN_FILE": file("p", "hunter2\n"), "TEST_UPPER_FILE": file("u", " u\r\n")}, want: secrets{Plain: "hunter2", Upper: upper{"U"}}},
		"white space within":      {env: map[string]string{"TEST_PLAIN_FILE": file("two", "\n a b\nc \n")}, want: secrets{Plain: "a b\nc"}},
		"an empty variable":       {env: map[string]string{"TEST_PLAIN": "", "TEST_PLAIN_FILE": file("e", "p")}, want: secrets{Plain: "p"}},
		"an empty path":           {env: map[string]string{"TEST_PLAIN": "p", "TEST_PLAIN_FILE": ""}, want: secrets{Plain: "p"}},
		"no secret":               {env: map[string]string{"TEST_PUBLIC_FILE": missing}},
		"a secret of others":      {env: map[string]string{"TEST_OTHERS_FILE": missing}},
		"both":                    {env: map[string]string{"TEST_PLAIN": "hunter2", "TEST_PLAIN_FILE": file("b", "hunter2")}, err: "TEST_PLAIN and TEST_PLAIN_FILE are both set"},
		"missing":                 {env: map[string]string{"TEST_PLAIN_FILE": missing}, err: "TEST_PLAIN_FILE: open " + missing + ": no such file or directory"},
		"a folder":                {env: map[string]string{"TEST_UPPER_FILE": dir}, err: "TEST_UPPER_FILE: read " + dir + ": is a directory"},
		"empty":                   {env: map[string]string{"TEST_PASSWORD_FILE": file("empty", " \n")}, err: "TEST_PASSWORD_FILE: " + filepath.Join(dir, "empty") + " is empty"},
		"every fault is reported": {env: map[string]string{"TEST_PASSWORD_FILE": missing, "TEST_UPPER_FILE": dir}, err: "no such file or directory\nTEST_UPPER_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range c.env {
				t.Setenv(variable, value)
			}
			var got secrets
			err := service.LoadConfig(&got)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.NotContains(t, err.Error(), "hunter2")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	t.Setenv("TEST_PASSWORD_FILE", file("password", "hunter2\n"))
	var got secrets
	require.NoError(t, service.LoadConfig(&got))
	require.Equal(t, "hunter2", string(got.Part.Password), "in a part of the config")
}

func BenchmarkLoadConfig(b *testing.B) {
	for b.Loop() {
		var c service.Config
		require.NoError(b, service.LoadConfig(&c))
	}
}
