//go:build integration && browser

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// watchControls runs before each page: it notes each control that is or was in the document, shown or not, and each that was pressed.
// A control is known by its id, or by where it is and its name, in which figures and ids of letters do not count. One without a name does
// not count: the parser can rest between a control and its text, and axe finds those that stay without.
const watchControls = `(() => {
	if (!location.protocol.startsWith("http")) return
	const selector = "button, a[href], summary, select, input[type=checkbox], [role=option]"
	const kept = (key) => new Set(JSON.parse(sessionStorage.getItem(key) ?? "[]"))
	const seen = kept("seen"), pressed = kept("pressed"), labels = kept("labels")
	const keep = () => Object.entries({ seen, pressed, labels }).forEach(([key, set]) => sessionStorage.setItem(key, JSON.stringify([...set])))
	const label = (e) => (e.ariaLabel || e.textContent || e.closest("label")?.textContent || e.title)
		.replace(/…[0-9a-f]{6}/g, "…id").replace(/\d[\d,.]*/g, "N").trim()
	const groups = { ".row": "a letter", ".cause-link": "a cause", ".sample summary": "a sample", ".letter-link": "a letter of a verdict", "#replays h3 a": "work", "#rows a": "a series" }
	const name = (e) => {
		const group = Object.keys(groups).find((g) => e.matches(g))
		if (group) return groups[group]
		if (e.id || e.dataset.view) return "#" + (e.id || e.dataset.view)
		const place = e.closest(".editor, .reader, #headers, .facts, #history, #verdict-filters, #bulk-details, #panel, dialog, section, header") ?? document.body
		return (place.id || place.className || place.tagName).toLowerCase() + ": " + (place.id === "verdict-filters" && label(e).includes("×") ? "a code" : label(e))
	}
	new MutationObserver(() => { document.querySelectorAll(selector).forEach((e) => { if (!name(e).endsWith(": ")) seen.add(name(e)) }); keep() }).observe(document, { childList: true, subtree: true })
	for (const event of ["click", "change"]) document.addEventListener(event, (e) => {
		const control = e.target.closest(selector)
		if (!control || control.matches("select") !== (event === "change")) return
		pressed.add(name(control)); labels.add(control.textContent.trim()); keep()
	}, true)
})()`

// kept returns a set that the page keeps.
func (b *browser) kept(t *testing.T, key string) (set []string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(b.script(t, fmt.Sprintf(`return sessionStorage.getItem(%q)`, key))), &set))
	slices.Sort(set)
	return set
}

// clickOn clicks on the control with a text or label among those that a selector selects.
func (b *browser) clickOn(t *testing.T, selector, text string) {
	t.Helper()
	b.holds(t, fmt.Sprintf(`(() => {
		document.querySelectorAll("[data-next]").forEach((e) => e.removeAttribute("data-next"))
		const found = [...document.querySelectorAll(%q)].find((e) => (e.ariaLabel || e.textContent).includes(%q) && e.checkVisibility() && !e.disabled)
		return found?.setAttribute("data-next", "") ?? found
	})()`, selector, text))
	b.click(t, "[data-next]")
}

// Each button, link and menu of the operators' page is pressed here, and does what it should. One that is not pressed fails the test, and
// so does one in the source that no state of the page here has.
func TestEveryButtonOfThePageIsPressed(t *testing.T) {
	t.Parallel()
	s, b := atPage(t)
	b.devtools(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchControls})
	letters := s.manyOfEverything(t)
	page := s.env["GATEWAY_URL"] + "/dlq"
	open := func(address, ready string) {
		t.Helper()
		b.open(t, page+address)
		b.holds(t, ready)
	}
	type step struct{ press, text, then string } // a control, and what it has to change
	press := func(steps ...step) {
		t.Helper()
		for _, p := range steps {
			if p.text == "" {
				b.click(t, p.press)
			} else {
				b.clickOn(t, p.press, p.text)
			}
			b.holds(t, p.then)
		}
	}
	const (
		titled  = `document.querySelector("#letter-title")?.textContent.includes("%s")`
		listed  = `document.querySelector("#list .row")`
		address = `location.search.includes("%s")`
		dialog  = `document.getElementById("%s").open`
		copied  = `/%s/.test(document.querySelector("#letter .row-of-buttons [role=status]").textContent)`
		shut    = `!document.querySelector("dialog[open]")`
	)
	is := fmt.Sprintf

	// frame and overview
	open("", `document.querySelectorAll("#causes .cause").length === 20`)
	b.press(t, keyTab)
	press(
		step{".skip", "", `document.activeElement.id === "main"`},
		step{"#more-causes", "", `document.querySelectorAll("#causes .cause").length > 20`},
		step{"#help", "", is(dialog, "help-dialog")},
		step{"#shortcuts-on", "", `localStorage.getItem("shortcuts") === "off"`},
		step{"#shortcuts-on", "", `localStorage.getItem("shortcuts") === "on"`},
		step{"#help-close", "", shut},
	)
	for _, status := range []string{"open", "replaying", "resolved", "sent", "discarded"} {
		press(step{"#counts ." + status, "", is(address, "status="+status)}, step{"h1 a", "", `location.search === ""`})
	}
	press(
		step{"#causes button", "Plan a replay", is(dialog, "bulk-dialog")},
		step{"#bulk-close", "", shut},
		step{".cause-link", "", is(address, "fingerprint=")},
		step{"nav a", "Causes", `!document.getElementById("causes-view").hidden`},
		step{"nav a", "Bulk work", `!document.getElementById("no-replays").hidden`},
		step{"nav a", "Letters", listed},
	)

	// list and filters
	for _, status := range []string{"replaying", "resolved", "sent", "discarded", "all", "open"} {
		press(step{"#f-status a", status, is(`document.querySelector("#f-status [aria-current]").textContent === "%s"`, status)})
	}
	press(step{"#more-letters", "", `document.querySelectorAll("#list .row").length > 100`})
	press(step{"#more-filters summary", "", `document.getElementById("more-filters").open`})
	b.write(t, "#f-topic", s.topics().Events)
	press(step{"#more-filters button", "Apply", is(address, "topic=")})
	b.write(t, "#f-q", "invalid")
	press(step{".search-row button", "Search", is(address, "q=invalid")})
	press(step{"#chips button", "Remove the filter topic", `!` + is(address, "topic=")})
	b.write(t, "#f-topic", "x")
	press(
		step{"#more-filters button", "Apply", is(address, "topic=x")},
		step{"#chips button", "Remove the filter q", `!` + is(address, "q=")},
	)
	b.write(t, "#f-symbol", "BIG")
	press(
		step{"#more-filters button", "Apply", is(address, "symbol=BIG")},
		step{"#chips button", "Clear all", `!` + is(address, "symbol=")},
	)
	open("?view=letters&symbol=BIG&fingerprint=x&since=2024-01-01T00:00:00Z&until=2124-01-01T00:00:00Z&same_key_as="+letters["BIG"],
		`document.querySelector("#chips button")`)
	for _, filter := range []string{"symbol", "fingerprint", "since", "until", "same_key_as"} {
		press(step{"#chips button", "Remove the filter " + filter, `!` + is(address, filter+"=")})
	}
	s.produce(t, &kafka.Message{Value: []byte(badPrice("NEWER", "1"))})
	press(step{"#news", "", `document.querySelector("#list .row").textContent.includes("NEWER")`})

	// one letter
	open("?view=letters&letter=00000000-0000-7000-8000-000000000000", `document.querySelector("#letter [role=alert]")`)
	press(step{"#letter button", "Try again", `document.querySelector("#letter [role=alert]")`})
	open("?view=letters&status=all&letter="+letters["BIG"], is(titled, "BIG"))
	press(
		step{".tabs button", "Raw", `document.querySelector(".reader").textContent.includes("characters 0")`},
		step{".reader button", "Next", `!document.querySelector(".reader").textContent.includes("characters 0")`},
		step{".reader button", "Previous", `document.querySelector(".reader").textContent.includes("characters 0")`},
		step{".reader button", "Last", `[...document.querySelectorAll(".reader button")].find((e) => e.textContent === "Last").disabled`},
		step{".reader button", "First", `document.querySelector(".reader").textContent.includes("characters 0")`},
	)
	b.write(t, ".reader .find", "raw_response_id")
	press(
		step{".reader button", "Find next", `document.querySelector(".reader mark")?.textContent === "raw_response_id"`},
		step{".tabs button", "Hex", `document.querySelector(".reader").textContent.includes("bytes 0")`},
		step{".tabs button", "Pretty", `document.querySelector(".reader").textContent.includes("characters 0")`},
		step{".tabs button", "Edit", `document.querySelector("#value")`},
		step{".editor button", "Next", `!document.querySelector(".editor .parts").textContent.includes("characters 0")`},
		step{".editor button", "Previous", `document.querySelector(".editor .parts").textContent.includes("characters 0")`},
	)
	b.write(t, ".editor .find", "raw_response_id")
	press(step{".editor button", "Find next", `document.activeElement.id === "value"`})
	edit(t, b, "raw_response_id", "changed")
	press(
		step{"#take-back", "", `!document.getElementById("value").value.includes("changed")`},
		step{".editor button", "Replace with a file", `document.querySelector(".editor input[type=file]")`}, // the browser's dialog opens
	)
	file := filepath.Join(t.TempDir(), "value.json")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	b.write(t, ".editor input[type=file]", file)
	b.holds(t, `document.getElementById("value").value === "{}"`)
	press(
		step{"#take-back", "", `document.getElementById("value").value.length > 2`},
		step{"#headers button", "Show more of", `document.querySelectorAll("#headers tbody")[0].rows.length === 150`},
		step{"#history ~ button", "Show older", `document.querySelectorAll("#history > li").length > 50`},
		step{"#letter button", "Copy link", is(copied, "link|view=letters")},
		step{"#letter button", "Copy as curl", is(copied, "curl")},
		step{"#letter button", "Copy as kcat", is(copied, "kcat")},
		step{"#letter button", "Download value", is(titled, "BIG")}, // the browser saves it
		step{".facts a", "this key", is(address, "same_key_as=")},
	)
	for _, other := range []string{"this symbol", "this cause"} {
		open("?view=letters&status=all&letter="+letters["BIG"], is(titled, "BIG"))
		press(step{".facts a", other, `!document.getElementById("letter-title")`})
	}
	open("?view=letters", listed)
	press(
		step{"#list .row-body", "", `document.getElementById("letter-title")`},
		step{"#close-letter", "", `!document.getElementById("letter-title")`},
	)
	b.window(t, 390, 844, true, "light")
	press(
		step{"#list .row-body", "", `document.getElementById("letter-title")`},
		step{"#back", "", `!document.getElementById("letter-title")`},
	)
	b.window(t, 1280, 800, false, "light")

	// decisions about one letter
	open("?view=letters&letter="+letters["ONE"], is(titled, "ONE"))
	press(
		step{"#discard", "", is(titled, "discarded")},
		step{"#restore", "", is(titled, "open")},
		step{"#replay", "", `document.getElementById("outcome").textContent.includes("refused")`},
	)
	s.rows(t, "update dead_letters set replay_count = 3 where id = $1", letters["ONE"])
	press(
		step{"#replay", "", `document.getElementById("force")?.checkVisibility()`},
		step{"#force", "", `document.getElementById("force").checked`},
		step{"#replay", "", `document.getElementById("outcome").textContent.includes("refused")`},
		step{"#tab-edit", "", `document.getElementById("value")`},
	)
	edit(t, b, `"1"`, "1")
	press(
		step{"#force", "", `!document.getElementById("force").checked`},
		step{"#force", "", `document.getElementById("force").checked`},
		step{"#replay", "", is(titled, "resolved")},
		step{"#history button", "What was sent", `document.querySelector("#history .diff")`},
	)
	open("?view=letters&symbol=TWO&letter="+letters["TWO"], is(titled, "TWO"))
	b.script(t, `document.getElementById("letter-title").focus()`)
	s.rows(t, "update dead_letters set failure_count = failure_count + 1 where id = $1", letters["TWO"])
	press(
		step{"#stale button", "", `!document.getElementById("stale")`},
		step{"#send", "", `document.getElementById("outcome").textContent.includes("A copy was sent")`},
	)

	// bulk work
	open("?view=letters&symbol=COPY", listed)
	press(
		step{"#select-all", "", `document.getElementById("selected").textContent.includes("selected")`},
		step{"#replay-selected", "", is(dialog, "bulk-dialog")},
		step{"#bulk-close", "", shut},
		step{"#discard-selected", "", is(dialog, "bulk-dialog")},
		step{"#bulk-close", "", shut},
		step{"#select-all", "", `document.getElementById("selected").textContent === "Select all"`},
		step{"#discard-matching", "", `document.getElementById("bulk-title").textContent === "Discard letters"`},
		step{"#bulk-close", "", shut},
		step{"#replay-matching", "", `document.getElementById("bulk-title").textContent === "Replay letters"`},
	)
	choose := func(target string) {
		t.Helper()
		b.script(t, is(`const e = document.getElementById("bulk-target"); e.value = "%s"; for (const n of ["input", "change"]) e.dispatchEvent(new Event(n, { bubbles: true }))`, target))
	}
	choose("topic")
	b.holds(t, `document.getElementById("bulk-transform").disabled`)
	choose("function")
	b.write(t, "#bulk-transform", `if .price == "7" then .price = "x" else . end | .price |= tonumber`)
	press(
		step{"#bulk-force", "", `document.getElementById("bulk-force").checked`},
		step{"#bulk-plan", "", `document.querySelector(".verdict-list li")`},
		step{"#bulk-details button", "More verdicts", `document.querySelectorAll(".verdict-list li").length > 50`},
		step{"#verdict-filters button", "accepted", `document.querySelector(".verdict-list .resolved") && !document.querySelector(".verdict-list .skipped")`},
		step{"#verdict-filters button", "skipped", `document.querySelector(".verdict-list .skipped") && !document.querySelector(".verdict-list .resolved")`},
		step{"#verdict-filters button", "×", `document.querySelector(".verdict-list .skipped") && !document.querySelector(".verdict-list .resolved")`},
		step{"#verdict-filters button", "All", `document.querySelectorAll(".verdict-list li").length === 50`},
		step{".sample:not([open]) summary", "", `document.querySelectorAll(".sample[open]").length === 2`}, // one is open from the start
		step{".sample .letter-link", "", is(titled, "COPY")},
	)
	b.script(t, `history.back()`)
	b.holds(t, `!document.getElementById("bulk-go").disabled`)
	b.script(t, `const e = document.getElementById("bulk-rate"); e.value = "1"; e.dispatchEvent(new Event("input", { bubbles: true }))`)
	press(
		step{"#bulk-go", "", `!document.getElementById("bulk-stop").hidden`},
		step{"#bulk-stop", "", `document.getElementById("bulk-progress").textContent.includes("Stopped by")`},
		step{"#bulk-close", "", shut},
		step{"nav a", "Bulk work", `document.querySelector("#replays a")`},
		step{"#replays a", "", is(dialog, "bulk-dialog")},
		step{"#bulk-close", "", shut},
	)
	for _, text := range []string{"Stop the plan", "Stop"} {
		require.Empty(t, s.rows(t, `update dead_letter_replays set status = 'running', dry_run = $1, finished_at = null, cancelled_by = null,
			lease_expires_at = now() + interval '1 hour'
			where id = (select max(id::text)::uuid from dead_letter_replays)`, text == "Stop the plan"))
		open("?view=replays", `document.querySelector("#replays button")`)
		press(step{"#replays button", text, `!document.querySelector("#replays button")`})
	}

	require.Empty(t, unpressed(b.kept(t, "seen"), b.kept(t, "pressed")), "controls that nothing here presses")
	labels := b.kept(t, "labels")
	for _, label := range buttonsInTheSource(t) {
		require.True(t, slices.ContainsFunc(labels, label.MatchString), "no button %q was pressed", label)
	}
	press(step{"#sign-out", "", `!document.getElementById("sign-in").hidden`})
	b.write(t, "#token", s.env["DLQ_TOKEN"])
	press(step{"#sign-in-button", "", `document.getElementById("sign-in").hidden`})
}

// unpressed returns what was seen but not pressed, except for what ends the session, which is pressed last.
func unpressed(seen, pressed []string) []string {
	return slices.DeleteFunc(seen, func(name string) bool {
		return slices.Contains(pressed, name) || name == "#sign-out" || name == "#sign-in-button"
	})
}

// buttonsInTheSource returns the texts of the buttons that the modules of the page make.
func buttonsInTheSource(t *testing.T) (all []*regexp.Regexp) {
	t.Helper()
	files, err := filepath.Glob("../../functions/dlq-inspector/page/*.js")
	require.NoError(t, err)
	made, value := regexp.MustCompile("\\bbutton\\((?:\"([^\"]+)\"|`([^`]+)`)"), regexp.MustCompile(`\\\$\\\{.*?\\\}`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range made.FindAllStringSubmatch(string(source), -1) {
			all = append(all, regexp.MustCompile("^"+value.ReplaceAllString(regexp.QuoteMeta(m[1]+m[2]), ".*")))
		}
	}
	require.NotEmpty(t, all)
	return all
}

// manyOfEverything stores letters until each list of the page has more than it shows at once, and returns the ids of some by their symbols.
func (s *stack) manyOfEverything(t *testing.T) map[string]string {
	t.Helper()
	big := &kafka.Message{Key: []byte("big"), Value: []byte(strings.Replace(badPrice("BIG", "1"), `"source"`, `"pad":"`+strings.Repeat("x", 50_000)+`","source"`, 1))}
	for i := range 150 {
		big.Headers = append(big.Headers, kafka.Header{Key: fmt.Sprint("header-", i), Value: []byte("x")})
	}
	s.produce(t, big)
	for _, symbol := range []string{"ONE", "TWO", "COPY"} {
		s.produce(t, &kafka.Message{Value: []byte(badPrice(symbol, "1"))})
	}
	s.eventually(t, []string{"4"}, "select count(*)::text from dead_letters")
	require.Empty(t, s.rows(t, `
		insert into dead_letters
		select (jsonb_populate_record(l, jsonb_build_object(
			'id', overlay(id::text placing right(gen_random_uuid()::text, 12) from 25), 'record_offset', 1000 + n, 'event_id', n, 'fingerprint', 'cause-' || n % 25, 'value', '\x' || encode(convert_to(
				replace(convert_from(value, 'UTF8'), '"1"', '"' || 1 + n % 9 || '"'), 'UTF8'), 'hex')))).*
		from dead_letters l, generate_series(1, 120) n
		where symbol = 'COPY'`))
	require.Empty(t, s.rows(t, `
		insert into dead_letter_audit (letter_id, who, action, before, after)
		select id, 'test', 'restore', '{}', '{}' from dead_letters, generate_series(1, 60) where symbol = 'BIG'`))
	out := map[string]string{}
	for _, line := range s.rows(t, "select symbol || ' ' || max(id::text) from dead_letters group by symbol") {
		symbol, id, _ := strings.Cut(line, " ")
		out[symbol] = id
	}
	require.Len(t, out, 4, "%v", out)
	return out
}

// The test above would notice a new button.
func TestAnUnpressedButtonIsNoticed(t *testing.T) {
	t.Parallel()
	_, b := atPage(t)
	b.devtools(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchControls})
	b.open(t, b.script(t, "return location.href"))
	b.holds(t, `!document.getElementById("views").hidden`)
	b.script(t, `document.getElementById("main").append(Object.assign(document.createElement("button"), { textContent: "New 1" }))`)
	b.holds(t, `sessionStorage.getItem("seen").includes("body: New N")`)
	require.Contains(t, unpressed(b.kept(t, "seen"), b.kept(t, "pressed")), "body: New N")
	b.clickOn(t, "#main button", "New 1")
	require.NotContains(t, unpressed(b.kept(t, "seen"), b.kept(t, "pressed")), "body: New N")
}
