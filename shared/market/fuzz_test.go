package market_test

import (
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

var (
	symbolPattern = regexp.MustCompile(market.SymbolPattern)
	dotSegment    = regexp.MustCompile(`(^|/)\.\.?(/|$)`)
)

// FuzzParseSymbol compares with the documented pattern.
func FuzzParseSymbol(f *testing.F) {
	for _, s := range []string{
		"AAPL", "btc-usd", "^GSPC", "M&M.NS", "EURUSD=X", "A/../B", "..", "/", "A?x=1", "A#f", "u@h", "A%2e", "A\r\nX: y", "A\x00", "'; drop table x--",
		"<script>", "ſ", "\xff", strings.Repeat("A", 33),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		symbol, err := market.ParseSymbol(text)
		valid := len(text) <= market.LongestName && symbolPattern.MatchString(text) && !dotSegment.MatchString(text)
		require.Equal(t, valid, err == nil, "%q", text)
		if err != nil {
			require.Equal(t, fault.CodeInvalidSymbol, fault.CodeOf(err))
			require.Empty(t, symbol)
			return
		}
		require.True(t, strings.EqualFold(text, string(symbol)))
		again, err := market.ParseSymbol(string(symbol))
		require.NoError(t, err)
		require.Equal(t, symbol, again)
	})
}

// FuzzParseProvider compares with the documented pattern, and splits the name of a series.
func FuzzParseProvider(f *testing.F) {
	for _, s := range []string{"yfinance", "yfinance-1d", "-1d", "a--1m", "1d", "YFINANCE", "", "../x", "a\n"} {
		f.Add(s)
	}
	pattern := regexp.MustCompile(`\A[a-z0-9_-]{1,32}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := market.ParseProvider(text)
		require.Equal(t, pattern.MatchString(text), err == nil)
		if provider, interval, ok := market.ParseBarSeries(text); ok {
			require.NotEmpty(t, provider)
			require.Positive(t, interval.Duration())
			require.Equal(t, text, market.BarSeries(provider, interval))
		}
	})
}

// FuzzParsePrice compares with exact fractions: a price has the value of its text, and is written with the digits that it needs.
func FuzzParsePrice(f *testing.F) {
	for _, s := range []string{
		"150.25", "1e2", "1.5E-3", "12345678901234567890.123456789012345678", "1e999999999", "1e-999999999", "0.1000", "-0", "00", "1.", ".5", "1_0", "0x1p4",
		"Inf", "1/3", "٣", "1e0000000001", "1e+-2", "1e2e2", "1e4294967298", "1e\u22122",
	} {
		f.Add(s, 2)
	}
	number := regexp.MustCompile(`\A-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\z`)
	plain := regexp.MustCompile(`\A(0|[1-9][0-9]{0,19})(\.[0-9]{0,17}[1-9])?\z`)
	f.Fuzz(func(t *testing.T, text string, places int) {
		p, err := market.ParsePrice(text)
		rounded, roundedErr := market.ParseRounded(text, int32(places&15))
		if err == nil {
			require.Regexp(t, number, text)
			require.Regexp(t, plain, p.String())
			require.Equal(t, value(t, text), value(t, p.String()))
			require.Equal(t, 1, p.Cmp(market.Price{}))
			again, err := market.ParsePrice(p.String())
			require.NoError(t, err)
			require.Equal(t, p, again)
		} else {
			require.Equal(t, fault.CodeInvalidPrice, fault.CodeOf(err))
		}
		if roundedErr == nil {
			require.Regexp(t, plain, rounded.String())
			difference := new(big.Rat).Sub(value(t, rounded.String()), value(t, text))
			half := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Mul(big.NewInt(2), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places&15)), nil)))
			require.LessOrEqual(t, difference.Abs(difference).Cmp(half), 0)
		}
	})
}

func value(t *testing.T, text string) *big.Rat {
	t.Helper()
	r, ok := new(big.Rat).SetString(text)
	require.True(t, ok, text)
	return r
}
