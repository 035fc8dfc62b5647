package priceevent_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

// golden is the event that the README shows.
func golden(t *testing.T) priceevent.Observation {
	t.Helper()
	price, err := market.ParsePrice("150.25")
	require.NoError(t, err)
	return priceevent.Observation{
		Symbol: "AAPL", Provider: "alpha_vantage", Price: price, ObservedAt: time.Date(2024, 3, 20, 10, 30, 0, 123456000, time.UTC),
		RawResponseID: uuid.MustParse("0190f5d8-0000-7000-8000-000000000001"),
	}
}

func TestGoldenEvent(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var want struct {
		Key     string
		Headers map[string]string
		Value   json.RawMessage
	}
	require.NoError(t, json.Unmarshal(raw, &want))
	m, err := priceevent.Encode(golden(t))
	require.NoError(t, err)
	require.Equal(t, want.Key, m.Key)
	require.Equal(t, want.Headers, m.Headers)
	require.JSONEq(t, string(want.Value), string(m.Value))
	got, err := priceevent.Decode(want.Value, 0, now)
	require.NoError(t, err)
	require.Equal(t, golden(t), got)
}

// The schema requires the same members as Decode, with the same patterns.
func TestSchemaMatchesTheCode(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("schema.json")
	require.NoError(t, err)
	var schema struct {
		Title      string
		Required   []string
		Properties map[string]struct {
			Pattern   string
			MaxLength int
		}
	}
	require.NoError(t, json.Unmarshal(raw, &schema))
	require.Equal(t, priceevent.Type, schema.Title)
	require.Len(t, schema.Properties, len(schema.Required))
	m, err := priceevent.Encode(golden(t))
	require.NoError(t, err)
	for _, name := range schema.Required {
		require.Contains(t, schema.Properties, name)
		var members map[string]any
		require.NoError(t, json.Unmarshal(m.Value, &members))
		require.Contains(t, members, name)
		delete(members, name)
		without, err := json.Marshal(members)
		require.NoError(t, err)
		_, err = priceevent.Decode(without, 0, now)
		require.Error(t, err, "without %s", name)
	}
	require.Equal(t, market.SymbolPattern, schema.Properties["symbol"].Pattern)
	require.Equal(t, market.ProviderPattern, schema.Properties["source"].Pattern)
	for _, name := range []string{"symbol", "source"} {
		require.Equal(t, market.LongestName, schema.Properties[name].MaxLength, name)
	}
}

func TestReadmeListsTheRefusals(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var listed []priceevent.Refusal
	_, table, found := strings.Cut(string(raw), "| code |")
	require.True(t, found)
	for _, cells := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (.+) \\|$").FindAllStringSubmatch(table, -1) {
		r, ok := priceevent.Explain(cells[1])
		require.True(t, ok, cells[1])
		require.Equal(t, r.Meaning, cells[2], r.Code)
		listed = append(listed, r)
	}
	require.Equal(t, priceevent.Refusals[:len(priceevent.Refusals)-3], listed, "those that compute-ma itself can write")
}
