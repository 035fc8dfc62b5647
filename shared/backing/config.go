package backing

import (
	"errors"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

// Config is the part of a function's environment that says where its services are.
type Config struct {
	DatabaseURL   service.Secret `envconfig:"DATABASE_URL"`
	RedisURL      service.Secret `envconfig:"REDIS_URL"`
	Kafka         kafkaclient.Config
	Topics        priceevent.Topics
	Limits        ratelimit.Config
	RedisOptional bool `ignored:"true"` // REDIS_URL may be empty: each replica limits alone
	// ServesWithoutPostgres: an outage of Postgres leaves something useful to answer.
	ServesWithoutPostgres bool `ignored:"true"`
}

// Load reads what envconfig cannot. Call it before [Config.Validate].
func (c *Config) Load() { c.Kafka.Load() }

// Validate reports all faults at once, in the order of the fields.
func (c Config) Validate() error {
	var redis error
	if !c.RedisOptional {
		redis = service.Required("REDIS_URL", c.RedisURL)
	}
	return errors.Join(
		service.Required("DATABASE_URL", c.DatabaseURL), redis, c.Kafka.Validate(), c.Topics.Validate(), c.Limits.Validate(),
	)
}
