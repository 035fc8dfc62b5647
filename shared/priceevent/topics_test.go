package priceevent_test

import (
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"
	"github.com/stretchr/testify/require"

	"marketdata/shared/priceevent"
)

func TestTopicsOfTheEnvironment(t *testing.T) { //nolint:paralleltest // sets variables
	var topics priceevent.Topics
	require.NoError(t, envconfig.Process("", &topics))
	require.Equal(t, priceevent.DefaultTopics, topics)
	require.NoError(t, topics.Validate())
	for _, line := range (priceevent.Topics{Events: "acme.prod.prices_v1", DeadLetters: "acme.prod.prices_v1.dlq"}).Environ() {
		name, value, _ := strings.Cut(line, "=")
		t.Setenv(name, value)
	}
	require.NoError(t, envconfig.Process("", &topics))
	require.Equal(t, priceevent.Topics{Events: "acme.prod.prices_v1", DeadLetters: "acme.prod.prices_v1.dlq"}, topics)
	require.NoError(t, topics.Validate())
}

func TestTopicsThatKafkaRefuses(t *testing.T) {
	t.Parallel()
	for name, topics := range map[string]priceevent.Topics{
		"empty": {"", "b"}, "a dot": {".", "b"}, "two dots": {"..", "b"}, "a space": {"a b", "b"}, "a slash": {"a/b", "b"}, "a line": {"a\n", "b"},
		"too long": {strings.Repeat("a", 250), "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, topics.Validate(), "PRICE_EVENTS_TOPIC: ")
			require.NotContains(t, topics.Validate().Error(), "DEAD_LETTER_TOPIC")
		})
	}
	require.NoError(t, priceevent.Topics{Events: strings.Repeat("a", 249), DeadLetters: "b"}.Validate())
	require.ErrorContains(t, priceevent.Topics{Events: "a", DeadLetters: "a"}.Validate(), "DEAD_LETTER_TOPIC is the same as PRICE_EVENTS_TOPIC")
	require.EqualError(t, priceevent.Topics{}.Validate(), `PRICE_EVENTS_TOPIC: "" is not a name of 1 to 249 letters, digits, '.', '_' and '-'
DEAD_LETTER_TOPIC: "" is not a name of 1 to 249 letters, digits, '.', '_' and '-'`)
}
