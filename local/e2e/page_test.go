//go:build integration && browser

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// TestOperatorsPage is an operator at the page: it signs in, looks at a hostile payload, corrects it, sees what changed, replays
// it, and replays all others after a plan.
func TestOperatorsPage(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "RATE_LIMIT_DEFAULT=10000/1s")
	const hostile = `{"symbol":"EVIL","price":"<img src=x onerror=document.title='owned'>","timestamp":"2024-01-01T00:00:00Z","source":"test","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`
	s.produce(t, &kafka.Message{Value: []byte(hostile)})
	s.eventually(t, []string{"1"}, "select count(*)::text from dead_letters")

	b := newBrowser(t)
	b.open(t, s.env["GATEWAY_URL"]+"/dlq")
	b.write(t, "#token", "wrong\n")
	b.shows(t, "#status", "the operator token is not known")
	b.write(t, "#token", s.env["DLQ_TOKEN"]+"\n") // Enter: no mouse is needed
	b.shows(t, "#groups", "invalid_price")
	b.shows(t, "#stats", "1 open")

	b.click(t, "#groups button") // the cause
	b.shows(t, "#letters", "EVIL")
	b.click(t, "#letters button")
	b.shows(t, "#letter-title", "invalid_price · EVIL · open")
	require.Contains(t, b.property(t, "#value", "value"), "onerror")
	require.Equal(t, "Dead letters", b.script(t, "return document.title"), "payloads are text")
	require.Equal(t, "letter", b.script(t, "return document.activeElement.id"), "the focus follows")

	b.script(t, `const v = document.getElementById("value"); v.value = v.value.replace(/"<img[^"]*"/, "12.5"); v.dispatchEvent(new Event("input"))`)
	b.shows(t, "#diff .add", `"price": 12.5`)
	b.shows(t, "#diff .del", "onerror")
	b.write(t, "#reason", "the price is a number")
	b.click(t, "#replay")
	b.shows(t, "#status", "The function took it.")
	b.shows(t, "#letter-title", "resolved")
	b.shows(t, "#audit", "the price is a number")
	require.Equal(t, []string{"12.5"}, s.rows(t, "select average::text from symbol_averages where symbol = 'EVIL' and window_size = 5"))

	for i := range 3 { // what has been mended meanwhile is tried again in one go
		s.produce(t, &kafka.Message{Value: []byte(strings.ReplaceAll(hostile, "EVIL", fmt.Sprint("E", i)))})
	}
	s.eventually(t, []string{"3"}, "select count(*)::text from dead_letters where status = 'open'")
	b.click(t, "#any-cause")
	b.click(t, "#replay-all")
	b.shows(t, "#bulk-what", "All open letters")
	require.Equal(t, "true", b.property(t, "#bulk-go", "disabled"), "first a plan")
	b.click(t, `#bulk-form button[value="plan"]`)
	b.shows(t, "#bulk-progress", "3 refused")
	require.Equal(t, []string{"3"}, s.rows(t, "select count(*)::text from dead_letters where status = 'open' and replay_count = 0"))
	b.click(t, "#bulk-go")
	b.shows(t, "#bulk-progress", "completed: 3 of 3; 3 refused")
	b.click(t, "#bulk-close")
	b.shows(t, "#letters", "E2")

	b.click(t, "#letters button")
	b.shows(t, "#letter-title", "open")
	b.click(t, "#discard")
	b.shows(t, "#status", "Discarded.")
	b.click(t, "#sign-out")
	require.Equal(t, "true", b.property(t, "#work", "hidden"))
	require.Equal(t, "null", b.script(t, `return String(sessionStorage.getItem("token"))`))
}

// browser is Chromium behind the WebDriver protocol (W3C WebDriver).
type browser struct{ session string }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromedriver")
	require.NoError(t, err, "no chromedriver: install Chromium and its driver (Debian: apt-get install chromium-driver)")
	port := testenv.FreePort(t)
	driver := exec.Command(path, fmt.Sprint("--port=", port))
	require.NoError(t, driver.Start())
	b := &browser{session: fmt.Sprintf("http://127.0.0.1:%d/session", port)}
	t.Cleanup(func() {
		b.ask(t, http.MethodDelete, "", nil)
		require.NoError(t, driver.Process.Kill())
		require.Error(t, driver.Wait(), "killed")
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/status", port))
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
	var made struct{ SessionID string }
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--user-data-dir=" + t.TempDir(),
		}},
	}}}), &made))
	b.session += "/" + made.SessionID
	return b
}

// ask sends a command and gives its value.
func (b *browser) ask(t *testing.T, method, command string, body any) json.RawMessage {
	t.Helper()
	value, err := b.tryAsk(method, command, body)
	require.NoError(t, err, command)
	return value
}

func (b *browser) tryAsk(method, command string, body any) (json.RawMessage, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, b.session+command, content)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: %.300s", resp.StatusCode, answer)
	}
	var v struct{ Value json.RawMessage }
	return v.Value, json.Unmarshal(answer, &v)
}

func (b *browser) open(t *testing.T, url string) {
	t.Helper()
	b.ask(t, http.MethodPost, "/url", map[string]string{"url": url})
}

// element finds the first element of a selector.
func (b *browser) element(selector string) (path string, err error) {
	value, err := b.tryAsk(http.MethodPost, "/element", map[string]string{"using": "css selector", "value": selector})
	if err != nil {
		return "", err
	}
	var found map[string]string
	err = json.Unmarshal(value, &found)
	for _, id := range found {
		path = "/element/" + id
	}
	return path, err
}

// click waits until an element can be clicked, and clicks it.
func (b *browser) click(t *testing.T, selector string) {
	t.Helper()
	var err error
	require.Eventually(t, func() bool {
		var path string
		if path, err = b.element(selector); err == nil {
			_, err = b.tryAsk(http.MethodPost, path+"/click", map[string]any{})
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "%s", selector)
}

func (b *browser) write(t *testing.T, selector, text string) {
	t.Helper()
	path, err := b.element(selector)
	require.NoError(t, err)
	b.ask(t, http.MethodPost, path+"/value", map[string]string{"text": text})
}

// shows waits until an element that is on show has the text.
func (b *browser) shows(t *testing.T, selector, text string) {
	t.Helper()
	var last string
	require.Eventually(t, func() bool {
		path, err := b.element(selector)
		if err != nil {
			return false
		}
		value, err := b.tryAsk(http.MethodGet, path+"/text", nil)
		if err != nil || json.Unmarshal(value, &last) != nil {
			return false
		}
		return strings.Contains(last, text)
	}, 20*time.Second, 20*time.Millisecond, "%s has no %q", selector, text)
}

func (b *browser) property(t *testing.T, selector, name string) string {
	t.Helper()
	path, err := b.element(selector)
	require.NoError(t, err)
	var v any
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodGet, path+"/property/"+name, nil), &v))
	return fmt.Sprint(v)
}

func (b *browser) script(t *testing.T, text string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "/execute/sync", map[string]any{"script": text, "args": []any{}}), &v))
	return fmt.Sprint(v)
}
