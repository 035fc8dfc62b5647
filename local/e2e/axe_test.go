//go:build integration && browser

package e2e

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// axePackage checks pages for faults of accessibility: WCAG 2.2 A and AA, and what is good practice beyond them.
const axePackage = "axe-core@4.14.1"

// axe returns the script, from npm.
func axe(t *testing.T) string {
	t.Helper()
	npm := testenv.Installed(t, "npm", "npm")
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), npm, "pack", "--silent", axePackage)
	pack.Dir = dir
	name, err := pack.Output()
	require.NoError(t, err, "npm pack %s", axePackage)
	file, err := os.Open(filepath.Join(dir, strings.TrimSpace(string(name))))
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // read
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		require.NotErrorIs(t, err, io.EOF, "the package has no axe.min.js")
		require.NoError(t, err)
		if header.Name == "package/axe.min.js" {
			script, err := io.ReadAll(files)
			require.NoError(t, err)
			return string(script)
		}
	}
}

// Every view of the pages is accessible, on a phone in the light scheme and on a desktop in the dark one, and does not scroll sideways.
// SCREENSHOTS names a folder for pictures in both schemes and at three widths.
func TestEveryViewIsAccessible(t *testing.T) {
	t.Parallel()
	script, screenshots := axe(t), os.Getenv("SCREENSHOTS") //nolint:forbidigo // for whoever wants to look
	hostile := strings.Replace(badPrice("EVIL", "x"), `"source"`, `"note":"<b>\u202E bidi</b>","source"`, 1)
	s, b := atPage(t, hostile, badPrice("GOOD", "1"), badPrice("GOOD", "2"), "not JSON", "{}")
	id := s.rows(t, `select id::text from dead_letters where symbol = 'EVIL'`)[0]
	work := func(path, order string) string {
		status, body, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+path, order,
			"Authorization", "Bearer "+s.env["DLQ_TOKEN"], "Content-Type", "application/json")
		require.Equal(t, http.StatusAccepted, status, string(body))
		var made struct{ ID string }
		require.NoError(t, json.Unmarshal(body, &made))
		return made.ID
	}
	plan := work("/dlq/replays", `{"dry_run":true,"transform":".price |= tonumber"}`)
	discard := work("/dlq/discards", `{"dry_run":true,"filter":{},"reason":"known"}`)
	running := work("/dlq/replays", `{"dry_run":true,"reason":"slowly"}`)
	s.eventually(t, []string{"3"}, "select count(*)::text from dead_letter_replays where status = 'completed'")
	require.Empty(t, s.rows(t, `update dead_letter_replays set status = 'running', dry_run = false, finished_at = null, trouble = 'the function gave no verdict',
		outcomes = '{"resolved": 2}', lease_expires_at = now() + interval '1 hour' where id = $1`, running))

	const press = `document.getElementById("%s").click();`
	views := []struct{ name, url, ready, then, shown string }{
		{"home", "/", `document.querySelector("#rows td")`, "", ""},
		{"causes", "/dlq", `document.querySelector("#causes .spark")`, "", ""},
		{"letters", "/dlq?view=letters", `document.querySelector("#list .row")`, "", ""},
		{"nothing", "/dlq?view=letters&q=no-such-text", `!document.getElementById("nothing").hidden`, "", ""},
		{"letter", "/dlq?view=letters&letter=" + id, `document.querySelector(".facts")`, "", ""},
		{"editor", "/dlq?view=letters&letter=" + id, `document.querySelector("#tab-edit")`, `document.querySelector("#tab-edit").click()`, ""},
		{"replays", "/dlq?view=replays", `document.querySelector("#replays .replay")`, "", ""},
		{"selection", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "select-all"), ""},
		{"replay-dialog", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "replay-matching"), ""},
		{"transform-error", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "replay-matching") +
			`document.getElementById("bulk-transform").value = ".price |="; ` + fmt.Sprintf(press, "bulk-plan"), `document.getElementById("transform-error").textContent`},
		{"plan", "/dlq?view=replays&work=" + plan, `document.querySelector(".verdict-list li")`, "", ""},
		{"plan-end", "/dlq?view=replays&work=" + plan, `document.querySelector(".verdict-list li")`, `document.getElementById("bulk-body").scrollTop = 1e6`, ""},
		{"running", "/dlq?view=replays&work=" + running, `document.querySelector("#bulk-progress .verdicts")`, "", ""},
		{"discard-dialog", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "discard-matching"), ""},
		{"discard-plan", "/dlq?view=replays&work=" + discard, `document.querySelector(".verdict-list li")`, "", ""},
		{"shortcuts", "/dlq", `document.querySelector("#causes .spark")`, `document.getElementById("help-dialog").showModal()`, ""},
		{"sign-in", "/dlq", `document.querySelector("#causes .spark")`, `document.getElementById("sign-out").click()`, ""}, // the last: it signs out
	}
	for _, view := range views {
		for _, size := range []struct{ width, height int }{{390, 844}, {1280, 800}, {2560, 1440}} {
			for _, scheme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%d-%s", view.name, size.width, scheme)
				checked := (scheme == "light") == (size.width == 390) && size.width < 2560 // each layout and each scheme once
				if !checked && screenshots == "" {
					continue
				}
				b.window(t, size.width, size.height, size.width < 500, scheme)
				if view.name != "sign-in" || size.width == 390 && scheme == "light" {
					b.open(t, s.env["GATEWAY_URL"]+view.url)
					b.holds(t, view.ready)
					b.script(t, view.then)
					b.holds(t, cmp.Or(view.shown, "true"))
				}
				b.holds(t, `document.documentElement.scrollWidth <= innerWidth`)
				b.screenshot(t, screenshots, name)
				if checked {
					require.Empty(t, b.violations(t, script), name)
				}
			}
		}
	}
	b.script(t, `document.body.append(document.createElement("img"))`)
	require.Contains(t, b.violations(t, script), "image-alt", "the check itself works")
}

// violations returns what axe finds on the page.
func (b *browser) violations(t *testing.T, script string) (found string) {
	t.Helper()
	b.script(t, script+"; return ''")
	value := b.ask(t, http.MethodPost, "/execute/async", map[string]any{"args": []any{}, "script": `
		const done = arguments[0]
		axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
			.then((r) => done(r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join(" | ")).join("\n")), (e) => done(String(e)))`})
	require.NoError(t, json.Unmarshal(value, &found))
	return found
}

// screenshot writes a picture of the window to a folder, if there is one.
func (b *browser) screenshot(t *testing.T, dir, name string) {
	t.Helper()
	if dir == "" {
		return
	}
	var picture string
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodGet, "/screenshot", nil), &picture))
	png, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}
