package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/joho/godotenv"

	"marketdata/local/services"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
	"marketdata/shared/trace"
)

// functionNames lists the functions in the order in which they start.
var functionNames = []string{"compute-ma", "dlq-inspector", "get-latest", "poll"}

// brokers are the values of KAFKA.
var brokers = []string{services.Embedded, services.Apache, services.ApacheSecure}

type config struct {
	GatewayAddr  string             `envconfig:"GATEWAY_ADDR" default:"localhost:8000"`
	Dir          string             `envconfig:"LOCAL_DIR" default:".local"`
	Copies       string             `envconfig:"COPIES"`                              // 1 to 20 replicas of a function: get-latest=3,compute-ma=2; others have 1
	ScaleToZero  string             `envconfig:"SCALE_TO_ZERO"`                       // 1, or how long a function without requests keeps its replicas
	Demo         bool               `envconfig:"DEMO" default:"1"`                    // polling jobs for the exchange's symbols
	Live         bool               `envconfig:"LIVE"`                                // use the real providers, not the fake ones
	ManifestDir  string             `envconfig:"KNATIVE_DIR" default:"knative"`       // manifests of the event sources
	ExchangeSeed uint64             `envconfig:"EXCHANGE_SEED" default:"1"`           // seed of the fake prices
	JitterSeed   uint64             `envconfig:"PING_JITTER_SEED" default:"1"`        // seed of the delays of ticks; 0: no delays
	ExchangeAddr string             `envconfig:"EXCHANGE_ADDR" default:"127.0.0.1:0"` // address of the fake providers
	Symbols      int                `envconfig:"EXCHANGE_SYMBOLS"`                    // number of invented instruments: LOAD0, LOAD1, …
	Install      bool               `envconfig:"LOCAL_INSTALL"`                       // may install Debian packages
	CI           bool               `envconfig:"CI"`                                  // a disposable machine, which implies Install
	LocalStack   string             `envconfig:"LOCAL_STACK"`                         // set in a shell that sourced .local/env
	DatabaseURL  string             `envconfig:"DATABASE_URL" secret:"true"`
	Users        roles.URLs         // of an existing database
	RedisURL     string             `envconfig:"REDIS_URL" secret:"true"`
	Kafka        kafkaclient.Config // an existing broker
	Topics       priceevent.Topics
	Tracing      trace.Config
	Traces       bool   `envconfig:"TRACES"`                   // take the traces of this stack, and show them at /traces
	GroupPrefix  string `envconfig:"CONSUMER_GROUP_PREFIX"`    // of the manifests' consumer groups, for a broker that others use, too
	Broker       string `envconfig:"KAFKA" default:"embedded"` // the broker to start: embedded, apache or apache-secure
	Pooler       bool   `envconfig:"PGBOUNCER"`                // put PgBouncer in front of the Postgres that is started
	DLQToken     string `envconfig:"DLQ_TOKEN" secret:"true"`
	replicas     map[string]int
	idle         time.Duration // of SCALE_TO_ZERO; 0: functions always run
}

// defaultIdle is shorter than the time between two ticks, so that every function sleeps. A cluster waits for a minute and more.
const defaultIdle = 3 * time.Second

func loadConfig() (config, error) {
	// The environment takes precedence over .env.
	if err := godotenv.Load(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return config{}, fmt.Errorf(".env: %w", err)
	}
	var c config
	c.Kafka.Load()
	err := service.LoadConfig(&c)
	return c, err
}

// Validate reports invalid settings, and fills replicas and idle.
func (c *config) Validate() error {
	c.replicas = map[string]int{}
	for _, name := range functionNames {
		c.replicas[name] = 1
	}
	for _, part := range strings.Split(c.Copies, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, count, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(count)
		// Without a replica the gateway and the sources would have no address of the function; -only leaves parts out.
		if _, known := c.replicas[name]; !known || err != nil || n < 1 || n > 20 {
			return fmt.Errorf("COPIES: invalid entry %q: want function=1..20, function one of %s", part, strings.Join(functionNames, " "))
		}
		c.replicas[name] = n
	}
	switch idle, err := time.ParseDuration(c.ScaleToZero); {
	case c.ScaleToZero == "" || c.ScaleToZero == "0":
	case c.ScaleToZero == "1":
		c.idle = defaultIdle
	case err != nil || idle < time.Second || idle > time.Hour:
		return fmt.Errorf("SCALE_TO_ZERO: %q is neither 1 nor a duration of 1s to 1h", c.ScaleToZero)
	default:
		c.idle = idle
	}
	if !slices.Contains(brokers, c.Broker) {
		return fmt.Errorf("KAFKA: unknown broker %q (one of %s)", c.Broker, strings.Join(brokers, ", "))
	}
	if err := errors.Join(c.Topics.Validate(), c.Tracing.Validate()); err != nil {
		return err
	}
	if c.Traces && c.Tracing.Endpoint+c.Tracing.TracesEndpoint != "" {
		return errors.New("TRACES and OTEL_EXPORTER_OTLP_ENDPOINT are set: traces go to one place")
	}
	if c.LocalStack == "" && c.DatabaseURL == "" && len(c.Users.ByFunction()) > 0 {
		return errors.New("a function has a DATABASE_URL of its own, but DATABASE_URL is not set, with which the schema is migrated")
	}
	if c.LocalStack == "" && c.Kafka.Servers() != "" {
		return c.Kafka.Validate()
	}
	return nil
}

func (c *config) binDir() string { return filepath.Join(c.Dir, "bin") }

// envPath is the file with the variables of the running stack.
func (c *config) envPath() string { return filepath.Join(c.Dir, "env") }

// clientID returns a client id for the event sources of this folder, which it keeps there. By it sources that start where others were
// killed know the dead in their groups.
func (c *config) clientID() (string, error) {
	path := filepath.Join(c.Dir, "client-id")
	text, err := os.ReadFile(path) //nolint:gosec // our own file
	if errors.Is(err, os.ErrNotExist) || err == nil && len(text) == 0 {
		text = []byte(uuid.NewString())
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("client id of the event sources: %w", err)
	}
	return string(text), nil
}

// services returns the options of the backing services. In a shell that sourced .local/env, the three service variables name the
// servers of that stack, so they are ignored with a message.
func (c *config) services(dir string, say func(string)) services.Options {
	o := services.Options{
		Dir: dir, Durable: true, Say: say, Install: c.Install || c.CI || inContainer(), Broker: c.Broker, Cache: filepath.Join(c.Dir, "cache"), Pooler: c.Pooler,
		Addresses: services.Addresses{DatabaseURL: c.DatabaseURL, Users: c.Users.ByFunction(), RedisURL: c.RedisURL, Kafka: c.Kafka},
	}
	if c.LocalStack != "" {
		say("LOCAL_STACK is set: DATABASE_URL, REDIS_URL and the KAFKA_ variables of that stack are ignored")
		o.Addresses = services.Addresses{}
	}
	return o
}

// withoutFiles is for the environment of programs that get these secrets in the variables themselves: an empty path counts as not set.
var withoutFiles = []string{"DATABASE_URL_FILE=", "REDIS_URL_FILE=", "DLQ_TOKEN_FILE="}

func inContainer() bool {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			return true
		}
	}
	return false
}
