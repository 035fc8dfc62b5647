package conformance

import (
	"bytes"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// WantBars is a call of Bars and the expected outcome of its response: bars, or an error.
type WantBars struct {
	Interval market.Interval
	From, To time.Time
	Now      time.Time // when the response is received

	Bars   []string // in the form "2024-03-08T00:00:00Z 170.73", with " unfinished" if it is not final
	Splits []market.Split
	Next   time.Time

	Code     string        // of the error
	Wait     time.Duration // RetryAfter of the error; 0: any
	Midnight bool          // RetryAfter ends at midnight UTC
}

func (w WantBars) check(t *testing.T, r result) {
	t.Helper()
	if w.Code != "" {
		Want{Code: w.Code, Wait: w.Wait, Midnight: w.Midnight}.check(t, r)
		return
	}
	require.NoError(t, r.err)
	require.Equal(t, w.Bars, texts(r.history.Bars))
	require.Equal(t, w.Splits, r.history.Splits)
	require.Equal(t, w.Next, r.history.Next)
}

func texts(bars []market.Bar) (out []string) {
	for i, text := range closes(bars) {
		if !bars[i].Final {
			text += " unfinished"
		}
		out = append(out, text)
	}
	return out
}

// recordedBars plays every file of testdata/bars. Those that differ from ok.http in the answer only have its question.
func (a Adapter) recordedBars(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a.folder(), "*.http"))
	require.NoError(t, err)
	require.Len(t, files, len(a.Bars.Recorded), "each recording has an expected outcome")
	for name, want := range a.Bars.Recorded {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := a // with a question of its own
			if want.Interval != "" {
				a.asks, a.now = &question{want.Interval, want.From, want.To}, want.Now
			}
			want.check(t, a.ask(t.Context(), t, a.serve(t, a.record(t, name).ServeHTTP), a.Symbol))
		})
	}
}

// FuzzBars fuzzes an adapter's decoder of bars. It begins with the recorded responses.
func FuzzBars(f *testing.F, decode func(upstream.Answer) ([]market.Bar, error)) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "bars", "*.http"))
	require.NoError(f, err)
	require.NotEmpty(f, files)
	all := question{market.Minute, time.Unix(0, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, file := range files {
		f.Add(Adapter{asks: &all}.record(f, filepath.Base(file)).body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bars, err := decode(upstream.Answer{Response: market.Response{Status: http.StatusOK, Body: body, ReceivedAt: usualTime}})
		if err != nil {
			require.Empty(t, bars)
			_, ok := fault.As(err)
			require.True(t, ok, "%v is not a fault", err)
			return
		}
		end := func(start time.Time) time.Time { return start.Add(time.Minute) }
		all.sound(t, market.History{Bars: upstream.Finish(bars, all.from, all.to, usualTime, end)})
		if len(bars) > 0 {
			requireSaid(t, body, bars[0].Close)
			requireSaid(t, body, bars[len(bars)-1].Close)
		}
	})
}

// notCloses are values that are neither a close nor the lack of one.
var notCloses = []string{
	`-1`, `"-1.5"`, `1e400`, `"1e400"`, `123456789012345678901`, `"NaN"`, `"Infinity"`, `""`, `"N/D"`, `true`, `{}`, `[1]`, `"1,234.5"`,
	`"0x10"`, `" 12"`, `"+12"`, `".5"`, `"٣"`,
}

// damagedBars plays variants of the good recording that a provider may send some day. None gives a wrong bar.
func (a Adapter) damagedBars(t *testing.T) {
	t.Helper()
	ok, want := a.record(t, "ok.http"), a.Bars.Recorded["ok.http"]
	ask := a.player(t, ok.header)
	require.Equal(t, 1, bytes.Count(ok.body, []byte(a.Bars.Close)), "Close is the text of one close")
	closing := func(text string) []byte { return bytes.Replace(ok.body, []byte(a.Bars.Close), []byte(text), 1) }

	t.Run("a truncated response has no bars", func(t *testing.T) {
		for n := range ok.body {
			require.Equal(t, "provider_malformed", fault.CodeOf(ask(t, http.StatusOK, ok.body[:n]).err), "%d bytes", n)
		}
	})
	t.Run("a response that lacks a byte has no bars that are not sound", func(t *testing.T) {
		for n := range ok.body {
			ask(t, http.StatusOK, append(bytes.Clone(ok.body[:n]), ok.body[n+1:]...)) // ask checks it
		}
	})
	t.Run("an invalid close", func(t *testing.T) {
		for _, text := range notCloses {
			require.Equal(t, "provider_malformed", fault.CodeOf(ask(t, http.StatusOK, closing(text)).err), text)
		}
	})
	t.Run("a missing close is a gap", func(t *testing.T) {
		others := append(append([]string{}, want.Bars[:a.Bars.Bar]...), want.Bars[a.Bars.Bar+1:]...)
		for _, text := range []string{`null`, `0`, `0.0`, `"0.0000"`} {
			r := ask(t, http.StatusOK, closing(text))
			require.NoError(t, r.err)
			require.Equal(t, others, texts(r.history.Bars), text)
		}
	})
	t.Run("every digit of a close is kept, unless closes are rounded", func(t *testing.T) {
		price := "12345678901234567890.123456789012345678"
		for _, text := range []string{price, `"` + price + `"`} {
			r := ask(t, http.StatusOK, closing(text))
			require.NoError(t, r.err)
			if got := r.history.Bars[a.Bars.Bar].Close.String(); a.Bars.Rounded {
				require.Equal(t, "12345678901234567890.12", got)
			} else {
				require.Equal(t, price, got)
			}
		}
	})
	t.Run("a byte order mark is ignored", func(t *testing.T) {
		want.check(t, ask(t, http.StatusOK, append([]byte("\ufeff"), ok.body...)))
	})
	t.Run("other data are not a history", func(t *testing.T) {
		for _, body := range []string{
			"", " ", "null", "{}", `"ok"`, "1", "<html></html>", "<!DOCTYPE html>\n<p>Sign in", "Too Many Requests", "\x00\xff",
			string(ok.body) + string(ok.body), "[" + string(ok.body) + "]", "[null]", "[[]]", "[{}]",
		} {
			require.Equal(t, "provider_malformed", fault.CodeOf(ask(t, http.StatusOK, []byte(body)).err), body)
		}
	})
	t.Run("statuses", func(t *testing.T) { statuses(t, ask) })
}
