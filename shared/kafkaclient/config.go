package kafkaclient

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"marketdata/shared/secret"
)

// Config holds the connection settings of all Kafka clients, as librdkafka's properties. It prints nothing of their values.
// Read-only once it is loaded, and then safe for concurrent use.
type Config struct {
	Properties map[string]secret.Value `ignored:"true"` // by librdkafka's name; filled by [Config.Load]
	faults     []error
}

const servers = "bootstrap.servers"

// At returns the settings of a broker that needs no others: a comma-separated list of host:port.
func At(bootstrapServers string) Config {
	return Config{Properties: map[string]secret.Value{servers: secret.Value(bootstrapServers)}}
}

// Load reads the environment: KAFKA_<NAME> is the property <name>, in lower case and with dots, as in the usual Kafka images.
// KAFKA_<NAME>_FILE names a file that has the value. The variables that Kubernetes sets for a Service named kafka are ignored. Call it
// before [Config.Validate], which reports what cannot be read.
func (c *Config) Load() { *c = FromEnviron(os.Environ()) }

// FromEnviron returns the settings of an environment, in lines of NAME=value; see [Config.Load].
func FromEnviron(environment []string) Config { return parse(environment, os.ReadFile) }

// parse reads the settings from the environment. The order of its faults is that of the variables' names.
func parse(environment []string, readFile func(string) ([]byte, error)) Config {
	c := Config{Properties: map[string]secret.Value{}}
	for _, line := range slices.Sorted(slices.Values(environment)) {
		variable, value, _ := strings.Cut(line, "=")
		name, ok := strings.CutPrefix(variable, "KAFKA_")
		if !ok || name == "" || ofService(name, value) {
			continue
		}
		if short, ok := strings.CutSuffix(name, "_FILE"); ok && !endsInFile[property(name)] {
			text, err := readFile(value)
			if err != nil {
				c.faults = append(c.faults, fmt.Errorf("%s: %w", variable, err))
				continue
			}
			name, value = short, strings.TrimSpace(string(text))
		}
		if _, ok := c.Properties[property(name)]; ok {
			c.faults = append(c.faults, fmt.Errorf("%s: the property %s is set twice", variable, property(name)))
			continue
		}
		c.Properties[property(name)] = secret.Value(value)
	}
	return c
}

func property(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", ".") }

// endsInFile has the properties whose names end in ".file": their values are paths that librdkafka reads itself.
var endsInFile = map[string]bool{"sasl.oauthbearer.assertion.private.key.file": true, "sasl.oauthbearer.assertion.jwt.template.file": true}

// serviceVariable matches what Kubernetes sets in every pod of a namespace for a Service named kafka, or kafka-…, if the pod has service
// links: host, port, and each port as a URL and in parts.
var serviceVariable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
})

func ofService(name, value string) bool {
	if !strings.Contains(name, "PORT") && !strings.Contains(name, "HOST") { // compiling the expression would take as long as all the rest
		return false
	}
	return serviceVariable().MatchString(name) || strings.HasSuffix(name, "PORT") && strings.HasPrefix(value, "tcp://")
}

// guarded has the properties that our guarantees rest on, and the guarantee.
var guarded = func() map[string]string {
	all := map[string]string{}
	for guarantee, names := range map[string][]string{
		"a record counts as written once all replicas in sync have it": {"acks", "request.required.acks", "topic.request.required.acks"},
		"a retry writes no record twice, and records keep their order": {
			"enable.idempotence", "enable.gapless.guarantee", "max.in.flight", "max.in.flight.requests.per.connection", "retries",
			"message.send.max.retries", "transactional.id", "partitioner",
		},
		"every event fits into a topic, and so does its dead letter": {"message.max.bytes", "message.copy.max.bytes"},
		"a request ends before its caller gives up": {
			"message.timeout.ms", "delivery.timeout.ms", "request.timeout.ms", "queue.buffering.max.messages", "queue.buffering.max.kbytes",
		},
		"a record is read where the program asks for it, and counts as read once it is processed": {
			"group.id", "group.instance.id", "group.protocol", "enable.auto.commit", "auto.commit.interval.ms", "enable.auto.offset.store",
			"auto.offset.reset", "enable.partition.eof", "isolation.level", "check.crcs",
		},
		"topics are created by the deployment, with their limits": {"allow.auto.create.topics"},
		"the program reads the client's events and logs":          {"log.queue", "log_level", "log.level", "enable.logs", "events", "debug", "statistics.interval.ms"},
	} {
		for _, name := range names {
			all[name] = guarantee
		}
	}
	return all
}()

// Validate reports all errors at once: files that cannot be read, properties that our guarantees rest on, and what librdkafka does not
// take: unknown names, values of another form, certificates and keys that it cannot parse. No error has the value of a property.
func (c Config) Validate() error {
	errs := slices.Clone(c.faults)
	if c.Servers() == "" {
		errs = append(errs, errors.New("KAFKA_BOOTSTRAP_SERVERS is not set"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		if guarantee, ok := guarded[name]; ok {
			errs = append(errs, fmt.Errorf("%s cannot be changed: %s", variable(name), guarantee))
		} else if strings.HasPrefix(name, "go.") || strings.HasPrefix(name, "{topic}.") {
			errs = append(errs, fmt.Errorf("%s: no such configuration property: %q", variable(name), name))
		}
	}
	if len(errs) == 0 && len(c.Properties) > 1 { // with the servers alone there is nothing that could be wrong, and a client costs a millisecond
		errs = append(errs, c.try())
	}
	return errors.Join(errs...)
}

func variable(property string) string {
	return "KAFKA_" + strings.ToUpper(strings.ReplaceAll(property, ".", "_"))
}

// try makes a client, which connects to nobody yet: librdkafka checks its settings nowhere else.
func (c Config) try() error {
	all := c.Map(kafka.ConfigMap{"enable.metrics.push": false, "go.logs.channel.enable": true, "go.events.channel.size": 1, "go.produce.channel.size": 1})
	client, err := kafka.NewProducer(all)
	if err != nil {
		text, about := c.redact(err.Error()), "KAFKA_…"
		for _, name := range slices.Sorted(maps.Keys(c.Properties)) { // of names that begin alike, the longest is the last
			if strings.Contains(text, name) {
				about = variable(name)
			}
		}
		return fmt.Errorf("%s: %s", about, text)
	}
	go client.Close() // it waits for a request to a token endpoint, for up to 20 s
	return nil
}

// secretName matches the properties whose values must not be shown.
var secretName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`password|secret|\.pem$|\.key$|^ssl\.key|oauthbearer\.config|assertion|jaas`)
})

// redact hides the values of passwords, keys and tokens in a text of librdkafka.
func (c Config) redact(text string) string {
	var values []string
	for name, value := range c.Properties {
		if secretName().MatchString(name) && value != "" {
			values = append(values, string(value))
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // the longest first: one may be part of another
	for _, value := range values {
		text = strings.ReplaceAll(text, value, "REDACTED")
	}
	return text
}

// Servers returns the bootstrap servers; empty if none are set.
func (c Config) Servers() string { return string(c.Properties[servers]) }

// Environ returns the variables that [Config.Load] would read these settings from, for a child process. They have the secrets.
func (c Config) Environ() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		lines = append(lines, variable(name)+"="+string(c.Properties[name]))
	}
	return lines
}

// Map returns librdkafka's configuration: a client's own properties, and over them those of the environment.
func (c Config) Map(own kafka.ConfigMap) *kafka.ConfigMap {
	all := maps.Clone(own)
	for name, value := range c.Properties {
		all[name] = string(value)
	}
	return &all
}
