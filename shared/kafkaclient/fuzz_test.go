package kafkaclient

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/secret"
)

// FuzzConfig reads any two variables: no setting is printed, all are handed on to a child process, and no text of librdkafka shows a
// password.
func FuzzConfig(f *testing.F) {
	f.Add("KAFKA_SASL_PASSWORD=hunter2hunter2", "KAFKA_BOOTSTRAP_SERVERS=a:1")
	f.Add("KAFKA_PORT=tcp://10.0.0.1:9092", "KAFKA_SASL_PASSWORD_FILE=secret")
	f.Add("KAFKA_A_B=1", "KAFKA_a_B=2")
	f.Add("KAFKA_=", "KAFKA__=x")
	f.Add("KAFKA_hunter2", "0")
	f.Fuzz(func(t *testing.T, first, second string) {
		c := parsed(first, second)
		if names, _, _ := strings.Cut(first, "="); !strings.Contains(strings.ToLower(names+second), "hunter2") {
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c), "hunter2")
		}
		for name, value := range c.Properties {
			if line := variable(name) + "=" + string(value); !ofService(strings.TrimPrefix(variable(name), "KAFKA_"), string(value)) {
				require.Contains(t, c.Environ(), line)
			}
		}
		c.Properties["sasl.password"], c.Properties["ssl.key.password"] = secret.Value(first), secret.Value(second)
		if text := c.redact("refused: " + first + second); len(first) > 16 {
			require.NotContains(t, text, first)
		}
	})
}
