//go:build integration && browser

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Markup is text in whatever the operators' page shows of a letter: code, reason, function, topic, key, attributes, content type and value.
func TestOperatorsPageShowsMarkupAsText(t *testing.T) {
	t.Parallel()
	s, b := atPage(t)
	const hostile = `<img src=x onerror=document.title='owned'>`
	problem, err := json.Marshal(map[string]string{"code": hostile + "code", "detail": hostile + "reason"})
	require.NoError(t, err)
	status, body, _ := call(t, http.MethodPost, s.env["DLQ_INSPECTOR_URL"]+"/", `{"symbol":"EVIL","x":"`+hostile+`value"}`,
		"Ce-Specversion", "1.0", "Ce-Id", hostile+"id", "Ce-Source", hostile+"source", "Ce-Type", hostile+"type", "Ce-Subject", hostile+"subject",
		"Ce-Partitionkey", hostile+"key", "Ce-Other", hostile+"other", "Content-Type", hostile+"media",
		"Ce-Kafkatopic", hostile+"topic", "Ce-Knativekafkapartition", "0", "Ce-Knativekafkaoffset", "1",
		"Ce-Knativeerrordest", hostile+"function", "Ce-Knativeerrorcode", "422", "Ce-Knativeerrordata", base64.StdEncoding.EncodeToString(problem))
	require.Equal(t, http.StatusNoContent, status, string(body))
	inert := func() {
		t.Helper()
		require.Equal(t, "0", b.script(t, `return String(document.querySelectorAll("[src=x], [onerror]").length)`))
		require.NotEqual(t, "owned", b.script(t, "return document.title"))
	}
	b.open(t, s.env["GATEWAY_URL"]+"/dlq")
	b.shows(t, "#causes", hostile+"code")
	b.shows(t, "#causes", hostile+"reason")
	inert()
	b.click(t, ".cause-link")
	b.shows(t, "#list", hostile+"code")
	inert()
	openLetter(t, s, b, "EVIL")
	b.shows(t, "#letter-title", hostile+"code")
	for _, part := range []string{"reason", "function", "topic", "id", "source", "type", "subject", "other", "value"} {
		b.shows(t, "#letter", hostile+part)
	}
	inert()
	b.click(t, "#tab-edit")
	b.holds(t, `document.getElementById("value").value.includes("onerror")`)
	edit(t, b, "value", "edited")
	b.shows(t, "#diff ins", "edited")
	inert()
}
