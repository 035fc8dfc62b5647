//go:build integration && browser

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// record keeps the bodies that the page sends to a path, as sent(path) in the page.
const record = `window.bodies = []; const real = window.fetch
	window.fetch = (path, o) => { if (o?.body) bodies.push([path, JSON.parse(o.body)]); return real(path, o) }
	window.sent = (path) => bodies.filter(([p]) => p === path).map(([, b]) => b)`

// A bulk replay needs a plan, and is not offered if every letter of the plan would be refused. The history shows replays whose dialog
// was closed. Letters that are selected are one request.
func TestOperatorsPageReplaysMany(t *testing.T) {
	t.Parallel()
	s, b := atPage(t, badPrice("A1", "1"), badPrice("A2", "2"), badPrice("A3", "3"))
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters")
	b.shows(t, "#list", "A3")
	b.click(t, "#replay-matching")
	b.shows(t, "#bulk-what", "all open letters")
	require.Equal(t, "true", b.property(t, "#bulk-go", "disabled"), "a replay needs a plan")
	b.click(t, "#bulk-plan")
	b.shows(t, "#bulk-progress", "3 would be refused")
	b.shows(t, "#bulk-progress", "nothing to replay")
	require.Equal(t, "true", b.property(t, "#bulk-go", "disabled"))
	require.Equal(t, []string{"3"}, s.rows(t, "select count(*)::text from dead_letters where status = 'open' and replay_count = 0"))
	b.click(t, "#bulk-close")

	status, _, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+"/dlq/replays", `{"rate_per_second":1,"reason":"slowly"}`,
		"Content-Type", "application/json", "Authorization", "Bearer "+s.env["DLQ_TOKEN"])
	require.Equal(t, http.StatusAccepted, status)
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=replays")
	b.shows(t, "#replays", "slowly")
	b.shows(t, "#replays", "Plan: replay of 3 letters")
	b.shows(t, "#replays", "3 of 3: 3 refused")
	b.click(t, "#replays a")
	b.shows(t, "#bulk-legend", "3 × invalid_price")
	b.click(t, "#bulk-close")

	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters")
	b.shows(t, "#list", "A3")
	b.script(t, record)
	b.press(t, "jx")
	b.shows(t, "#selected", "1 selected")
	b.click(t, "#select-all")
	b.shows(t, "#selected", "3 selected")
	b.click(t, "#discard-selected")
	b.shows(t, "#bulk-what", "3 letters, chosen in the list")
	b.click(t, "#bulk-plan")
	require.Equal(t, "false", b.script(t, `return document.getElementById("bulk-form").checkValidity()`), "a discard needs a reason")
	b.write(t, "#bulk-reason", "not needed")
	b.click(t, "#bulk-plan")
	b.shows(t, "#bulk-progress", "3 would be discarded")
	require.Equal(t, []string{"3"}, s.rows(t, "select count(*)::text from dead_letters where status = 'open'"))
	b.shows(t, "#bulk-go", "Discard 3 letters")
	b.click(t, "#bulk-go")
	b.shows(t, "#bulk-progress", "3 of 3: 3 discarded")
	b.click(t, "#bulk-close")
	require.Equal(t, []string{"3"}, s.rows(t, "select count(*)::text from dead_letter_audit where action = 'discard' and reason = 'not needed'"))
	require.Equal(t, "3,3", b.script(t, `return sent("/dlq/discards").map((r) => r.ids.length).join()`), "one request for the plan, one for the discard")
	require.Equal(t, "2", b.script(t, `return String(bodies.length)`))
}

// A transform is planned first. An error is shown at its field; the plan has samples and the verdict on each letter.
func TestOperatorsPageTransformsMany(t *testing.T) {
	t.Parallel()
	const digits = "12345678901234567890.123456789012345678"
	s, b := atPage(t, badPrice("DIGITS", digits), badPrice("NEGATIVE", "-1"), "{}")
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters")
	b.shows(t, "#list", "DIGITS")
	b.click(t, "#replay-matching")
	b.write(t, "#bulk-transform", ".price |=")
	b.click(t, "#bulk-plan")
	b.shows(t, "#transform-error", "line 1")
	b.holds(t, `document.activeElement.id === "bulk-transform" && document.activeElement.ariaInvalid === "true"`)
	require.Equal(t, []string{"0"}, s.rows(t, "select count(*)::text from dead_letter_replays"))

	b.write(t, "#bulk-transform", " tonumber")
	b.click(t, "#bulk-plan")
	b.shows(t, "#bulk-progress", "3 of 3: 1 would be accepted, 2 would be skipped")
	require.Empty(t, b.property(t, "#transform-error", "textContent"))
	b.shows(t, "#bulk-legend", "1 × transform_failed (the transform fails")
	require.Equal(t, "resolved:33% skipped:67%", b.script(t, `
		return [...document.querySelectorAll("#bulk-progress .verdicts span")].map((e) => e.className + ":" + Math.round(parseFloat(e.style.width)) + "%").join(" ")`))
	b.holds(t, `document.querySelectorAll("#bulk-details .sample").length === 3`)
	require.Equal(t, `price": -"-`+digits+`-"-,`, b.script(t, fmt.Sprintf(`
		const d = [...document.querySelectorAll(".sample .diff")].find((e) => e.textContent.includes(%q))
		d.querySelectorAll("del").forEach((e) => { e.textContent = "-" + e.textContent + "-" })
		return /price.*,/.exec(d.textContent)[0]`, digits)), "the quotes go, and no digit does")

	b.holds(t, `document.querySelectorAll(".verdict-list li").length === 3`)
	b.script(t, `[...document.querySelectorAll("#bulk-details button")].find((e) => e.textContent === "2 skipped").click()`)
	b.holds(t, `document.querySelectorAll(".verdict-list li").length === 2`)
	b.script(t, `[...document.querySelectorAll("#bulk-details button")].find((e) => e.textContent === "1 × invalid_price").click()`)
	b.holds(t, `document.querySelectorAll(".verdict-list li").length === 1`)
	b.click(t, ".verdict-list a")
	b.shows(t, "#letter-title", "NEGATIVE")
	b.holds(t, `!document.querySelector("dialog[open]")`)
	b.script(t, `history.back()`)
	b.shows(t, "#bulk-progress", "1 would be accepted")
	require.Equal(t, ".price |= tonumber", b.property(t, "#bulk-transform", "value"))

	b.write(t, "#bulk-transform", " ")
	require.Equal(t, "true", b.property(t, "#bulk-go", "disabled"), "another transform needs another plan")
	b.click(t, "#bulk-plan")
	b.holds(t, `!document.getElementById("bulk-go").disabled`)
	b.click(t, "#bulk-go")
	b.shows(t, "#bulk-progress", "3 of 3: 1 accepted, 2 skipped")
	b.shows(t, ".verdict-list", "transform_failed")
	require.Equal(t, []string{digits}, s.rows(t, "select price::text from price_points"))
}

// Work that is running is shown again after a reload, with its rate and the time that is left, and can be stopped.
func TestOperatorsPageFollowsWork(t *testing.T) {
	t.Parallel()
	s, b := atPage(t)
	var all []*kafka.Message
	for i := range 30 {
		all = append(all, &kafka.Message{Value: []byte(badPrice("SLOW", fmt.Sprint(i+1)))})
	}
	s.produce(t, all...)
	s.eventually(t, []string{"30"}, "select count(*)::text from dead_letters")
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&symbol=SLOW")
	b.shows(t, "#list", "SLOW")
	b.click(t, "#replay-matching")
	b.shows(t, "#bulk-what", "symbol SLOW")
	b.write(t, "#bulk-transform", ".price |= tonumber")
	b.click(t, "#bulk-plan")
	b.shows(t, "#bulk-go", "Replay 30 letters")
	b.script(t, `const e = document.getElementById("bulk-rate"); e.value = "1"; e.dispatchEvent(new Event("input", { bubbles: true }))`)
	b.click(t, "#bulk-go")
	b.shows(t, "#bulk-progress", "letters per second, about")
	id := s.rows(t, "select id::text from dead_letter_replays where status = 'running'")
	require.Len(t, id, 1)
	require.Equal(t, "?view=letters&symbol=SLOW&work="+id[0], b.script(t, "return location.search"))

	b.open(t, b.script(t, "return location.href"))
	b.shows(t, "#bulk-progress", "letters per second, about")
	require.Equal(t, ".price |= tonumber", b.property(t, "#bulk-transform", "value"))
	b.holds(t, `document.getElementById("bulk-settings").disabled`)
	b.click(t, "#bulk-stop")
	b.shows(t, "#bulk-progress", "Stopped by")
	b.holds(t, `document.getElementById("bulk-stop").hidden && !document.getElementById("bulk-plan").disabled`)
	require.NotEqual(t, []string{"0"}, s.rows(t, "select count(*)::text from dead_letters where status = 'open'"))
	b.click(t, "#bulk-close")
	require.Equal(t, "?view=letters&symbol=SLOW", b.script(t, "return location.search"))

	b.click(t, "#discard-matching")
	b.write(t, "#bulk-reason", "too slow")
	b.click(t, "#bulk-plan")
	b.shows(t, "#bulk-progress", "would be discarded")
	b.holds(t, `!document.getElementById("bulk-go").disabled`)
	// A discard is quick: this one is not due for an hour.
	require.Empty(t, s.rows(t, `update dead_letter_replays set status = 'running', dry_run = false, finished_at = null, outcomes = '{"discarded": 1}',
		lease_expires_at = now() + interval '1 hour' where action = 'discard'`))
	b.open(t, b.script(t, "return location.href"))
	b.shows(t, "#bulk-progress", "1 discarded")
	b.shows(t, "#bulk-progress", "left")
	b.click(t, "#bulk-stop")
	b.shows(t, "#bulk-progress", "Stopped by")
}

// The search field says when the database cannot search values.
func TestOperatorsPageSaysThatValuesAreNotSearched(t *testing.T) {
	t.Parallel()
	s, b := atPage(t, badPrice("A", "needle"))
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=needle")
	b.shows(t, "#list", "A")
	require.Equal(t, "true", b.property(t, "#values-not-searched", "hidden"))
	s.rows(t, "drop index dead_letter_texts_search")
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters&q=needle")
	b.shows(t, "#values-not-searched", "Values were not searched")
	b.shows(t, "#nothing", "No letter matches.")
	b.open(t, s.env["GATEWAY_URL"]+"/dlq?view=letters")
	b.shows(t, "#list", "A")
	require.Equal(t, "true", b.property(t, "#values-not-searched", "hidden"))
}
