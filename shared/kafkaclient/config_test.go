package kafkaclient

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// parsed reads an environment; its only file is named secret.
func parsed(environment ...string) Config {
	return parse(environment, func(name string) ([]byte, error) {
		if name != "secret" {
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		}
		return []byte("hunter2hunter2\n"), nil
	})
}

func TestVariablesAreProperties(t *testing.T) {
	t.Parallel()
	c := parsed("PATH=/bin", "KAFKA_BOOTSTRAP_SERVERS=a:1,b:2", "KAFKA_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_SASL_MECHANISM=SCRAM-SHA-512",
		"KAFKA_SASL_USERNAME=u=v", "KAFKA_SASL_PASSWORD_FILE=secret", "KAFKA_=x", "XKAFKA_ACKS=0")
	require.NoError(t, c.Validate())
	got := map[string]string{}
	for name, value := range c.Properties {
		got[name] = string(value)
	}
	require.Equal(t, map[string]string{
		"bootstrap.servers": "a:1,b:2", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u=v",
		"sasl.password": "hunter2hunter2",
	}, got)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c), "hunter2")
}

// A Service named kafka in the namespace of a function must not keep it from starting.
func TestVariablesOfKubernetesAreIgnored(t *testing.T) {
	t.Parallel()
	c := parsed("KAFKA_BOOTSTRAP_SERVERS=a:1", "KAFKA_PORT=tcp://10.0.0.7:9092", "KAFKA_SERVICE_HOST=10.0.0.7", "KAFKA_SERVICE_PORT=9092",
		"KAFKA_SERVICE_PORT_TCP_CLIENTS=9092", "KAFKA_PORT_9092_TCP=tcp://10.0.0.7:9092", "KAFKA_PORT_9092_TCP_PROTO=tcp", "KAFKA_PORT_9092_TCP_PORT=9092",
		"KAFKA_PORT_9092_TCP_ADDR=10.0.0.7", "KAFKA_UI_SERVICE_HOST=10.0.0.8", "KAFKA_UI_PORT=tcp://10.0.0.8:80", "KAFKA_UI_PORT_80_TCP_ADDR=10.0.0.8")
	require.NoError(t, c.Validate())
	require.Len(t, c.Properties, 1)
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, line, want string }{
		{"guarded", "KAFKA_ACKS=0", "KAFKA_ACKS cannot be changed"},
		{"guarded alias", "KAFKA_REQUEST_REQUIRED_ACKS=1", "KAFKA_REQUEST_REQUIRED_ACKS cannot be changed"},
		{"guarded, of the reader", "KAFKA_ISOLATION_LEVEL=read_uncommitted", "KAFKA_ISOLATION_LEVEL cannot be changed"},
		{"guarded, whatever the value", "KAFKA_ENABLE_IDEMPOTENCE=true", "KAFKA_ENABLE_IDEMPOTENCE cannot be changed"},
		{"unknown", "KAFKA_SASL_PASWORD=hunter2hunter2", "KAFKA_SASL_PASWORD: "},
		{"of the Go client", "KAFKA_GO_EVENTS_CHANNEL_SIZE=1", "KAFKA_GO_EVENTS_CHANNEL_SIZE"},
		{"value", "KAFKA_SECURITY_PROTOCOL=TLS", "KAFKA_SECURITY_PROTOCOL: "},
		{"number", "KAFKA_SOCKET_TIMEOUT_MS=soon", "KAFKA_SOCKET_TIMEOUT_MS: "},
		{"certificate", "KAFKA_SSL_CERTIFICATE_PEM=hunter2hunter2", "ssl.certificate.pem"},
		{"file of the secret", "KAFKA_SASL_PASSWORD_FILE=elsewhere", "KAFKA_SASL_PASSWORD_FILE: open elsewhere"},
		{"file of a certificate", "KAFKA_SSL_CA_LOCATION=/nowhere/ca.pem", "ssl.ca.location"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			lines := []string{"KAFKA_BOOTSTRAP_SERVERS=a:1", row.line}
			if row.name == "certificate" || row.name == "file of a certificate" {
				lines = append(lines, "KAFKA_SECURITY_PROTOCOL=SSL")
			}
			err := parsed(lines...).Validate()
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		require.ErrorContains(t, parsed("KAFKA_BOOTSTRAP_SERVERS=a:1", "KAFKA_SASL_PASSWORD=x", "KAFKA_SASL_PASSWORD_FILE=secret").Validate(), "sasl.password is set twice")
	})
	t.Run("no servers", func(t *testing.T) {
		t.Parallel()
		require.ErrorContains(t, parsed().Validate(), "KAFKA_BOOTSTRAP_SERVERS is not set")
	})
	t.Run("all faults at once, in a fixed order", func(t *testing.T) {
		t.Parallel()
		lines := []string{"KAFKA_RETRIES=1", "KAFKA_ACKS=0", "KAFKA_GROUP_ID=x", "KAFKA_SSL_KEY_PEM_FILE=elsewhere"}
		err := parsed(lines...).Validate()
		for range 20 {
			require.EqualError(t, parsed(lines...).Validate(), err.Error())
		}
		var all interface{ Unwrap() []error }
		require.ErrorAs(t, err, &all)
		require.Len(t, all.Unwrap(), 5)
	})
}

func TestValuesFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("from a file\n"), 0o600))
	c := FromEnviron([]string{"KAFKA_BOOTSTRAP_SERVERS=a:1", "KAFKA_SASL_PASSWORD_FILE=" + path})
	require.NoError(t, c.Validate())
	require.Equal(t, "from a file", string(c.Properties["sasl.password"]))
}

func TestEnvironIsWhatLoadReads(t *testing.T) {
	t.Parallel()
	lines := []string{"KAFKA_BOOTSTRAP_SERVERS=a:1", "KAFKA_SASL_PASSWORD=x=y", "KAFKA_SSL_CA_PEM=-----BEGIN\nline"}
	require.Equal(t, lines, FromEnviron(lines).Environ())
}
