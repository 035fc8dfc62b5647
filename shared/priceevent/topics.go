package priceevent

import (
	"errors"
	"fmt"
	"strings"
)

// Topics names the pipeline's topics. Companies have rules for such names, so they are settings.
type Topics struct {
	Events      string `envconfig:"PRICE_EVENTS_TOPIC" default:"price-events"`    // of price events
	DeadLetters string `envconfig:"DEAD_LETTER_TOPIC" default:"price-events-dlq"` // of their dead letters
}

// DefaultTopics are the names in the manifests.
var DefaultTopics = Topics{Events: "price-events", DeadLetters: "price-events-dlq"}

// Validate reports all faults at once, in the order of the fields.
func (t Topics) Validate() error {
	errs := []error{named("PRICE_EVENTS_TOPIC", t.Events), named("DEAD_LETTER_TOPIC", t.DeadLetters)}
	if t.Events == t.DeadLetters && t.Events != "" {
		errs = append(errs, errors.New("DEAD_LETTER_TOPIC is the same as PRICE_EVENTS_TOPIC: dead letters would be events again"))
	}
	return errors.Join(errs...)
}

// named reports a name that Kafka does not take (org.apache.kafka.common.internals.Topic).
func named(variable, topic string) error {
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	illegal := strings.ContainsFunc(topic, func(r rune) bool { return !strings.ContainsRune(legal, r) })
	if illegal || topic == "" || topic == "." || topic == ".." || len(topic) > 249 {
		return fmt.Errorf("%s: %q is not a name of 1 to 249 letters, digits, '.', '_' and '-'", variable, topic)
	}
	return nil
}

// Environ returns the variables that name the topics, for a child process.
func (t Topics) Environ() []string {
	return []string{"PRICE_EVENTS_TOPIC=" + t.Events, "DEAD_LETTER_TOPIC=" + t.DeadLetters}
}
