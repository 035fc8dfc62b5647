package market_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

func TestParsePrice(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"150.25": "150.25", "150.250": "150.25", "1": "1", "100": "100", "1e2": "100", "1.5E-3": "0.0015",
		"0.000000000000000001": "0.000000000000000001", "99999999999999999999": "99999999999999999999",
		"12345678901234567890.123456789012345678": "12345678901234567890.123456789012345678",
		"1.1000000000000000000000000":             "1.1",
		"1e0000000001":                            "10",
		"1." + strings.Repeat("0", 62):            "1", // 64 bytes
	}
	for in, want := range good {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			p, err := market.ParsePrice(in)
			require.NoError(t, err)
			require.Equal(t, want, p.String())
		})
	}
	bad := []string{
		"", "0", "-1", "0.0", "+1", ".5", "1.", "01", "abc", "1e", "NaN", "Infinity", "0x10", `"1"`, "1 ", " 1", "1_0",
		"100000000000000000000", "1e20", "0.0000000000000000001", "1e999999999", "1e-999999999", "1e99999999999",
		strings.Repeat("1", 65), "null", "1." + strings.Repeat("0", 63), "1e+-2", "1e2e2", "1e1.5", "1e 2", "1e0x1", "1e", "1e-", "1e\u22122", "\u22121",
	}
	for _, in := range bad {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			_, err := market.ParsePrice(in)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
}

// The fast path for short texts returns the same price as the slow one.
func TestShortPricesMatchLongOnes(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	const alphabet = "0001234567899..-+eE "
	for range 200_000 {
		b := make([]byte, 1+rng.IntN(20))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
			if rng.IntN(3) > 0 {
				b[i] = byte('0' + rng.IntN(10))
			}
		}
		text := string(b)
		got, err := market.ParsePrice(text)
		if strings.ContainsAny(text, "eE") {
			continue
		}
		want, wantErr := market.ParsePrice(text + "e0") // not read by the fast path
		require.Equal(t, wantErr == nil, err == nil, text)
		if err == nil {
			require.Equal(t, want, got, text)
			require.Equal(t, want.Scale(), got.Scale(), text)
		}
	}
}

// Equal prices are the same in every respect, however they are written.
func TestEqualPricesAreIdentical(t *testing.T) {
	t.Parallel()
	for text, other := range map[string]string{"10": "1e1", "100": "1E+2", "1": "0.10e1", "1.5": "1.500", "0.0015": "15e-4"} {
		p, err := market.ParsePrice(text)
		require.NoError(t, err)
		q, err := market.ParsePrice(other)
		require.NoError(t, err)
		require.Equal(t, p, q, text)
		require.Equal(t, p.Scale(), q.Scale(), text)
	}
	require.Equal(t, market.Price{}, market.NewPrice(decimal.New(0, -3)))
}

// Postgres gets the digits of a price, and a value that is no price is an error.
func TestPriceAsNumeric(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"150.25", "1e2", "0.000000000000000001", "12345678901234567890.123456789012345678"} {
		p, err := market.ParsePrice(text)
		require.NoError(t, err)
		n, err := p.NumericValue()
		require.NoError(t, err)
		digits, err := n.Value()
		require.NoError(t, err)
		again, err := market.ParsePrice(fmt.Sprint(digits))
		require.NoError(t, err)
		require.Equal(t, p, again)
		var scanned market.Price
		require.NoError(t, scanned.ScanNumeric(n))
		require.Equal(t, p, scanned)
	}
	for name, n := range map[string]pgtype.Numeric{
		"NULL": {}, "NaN": {NaN: true, Valid: true}, "infinity": {InfinityModifier: pgtype.Infinity, Valid: true},
		"NULL that is infinite": {InfinityModifier: pgtype.NegativeInfinity}, "NULL with digits": {Int: big.NewInt(1)},
	} {
		p, err := market.ParsePrice("7")
		require.NoError(t, err)
		require.Error(t, p.ScanNumeric(n), name)
		require.Equal(t, "7", p.String(), name)
	}
}

func TestPriceJSONKeepsEveryDigit(t *testing.T) {
	t.Parallel()
	var v struct{ P market.Price }
	require.NoError(t, json.Unmarshal([]byte(`{"P":100000000.000000010}`), &v))
	out, err := json.Marshal(v)
	require.NoError(t, err)
	require.JSONEq(t, `{"P":100000000.00000001}`, string(out))
	require.Contains(t, string(out), "100000000.00000001")
	require.Error(t, json.Unmarshal([]byte(`{"P":"1"}`), &v))
}

// Every byte is allowed or refused as the documented patterns say, and so is every length.
func TestEveryByteAndLength(t *testing.T) {
	t.Parallel()
	symbol, provider := regexp.MustCompile(market.SymbolPattern), regexp.MustCompile(market.ProviderPattern)
	for c := range 256 {
		for _, text := range []string{string([]byte{byte(c)}), string([]byte{'A', byte(c)})} {
			parsed, err := market.ParseSymbol(text)
			require.Equal(t, symbol.MatchString(text), err == nil, "%q", text)
			if err == nil {
				require.Equal(t, strings.ToUpper(text), string(parsed))
			}
		}
		text := string([]byte{byte(c)})
		_, err := market.ParseProvider(text)
		require.Equal(t, provider.MatchString(text), err == nil, "%q", text)
	}
	for n := range 40 {
		name, err := market.ParseProvider(strings.Repeat("a", n))
		require.Equal(t, n >= 1 && n <= 32, err == nil, n)
		if err == nil {
			require.Len(t, name, n)
		}
		_, err = market.ParseSymbol(strings.Repeat("A", n))
		require.Equal(t, n >= 1 && n <= 32, err == nil, n)
	}
}

// The patterns accept what the parsers accept, except for dot segments.
func TestPatterns(t *testing.T) {
	t.Parallel()
	symbol, provider := regexp.MustCompile(market.SymbolPattern), regexp.MustCompile(market.ProviderPattern)
	for _, text := range []string{
		"AAPL", "aapl", "^GSPC", "M&M.NS", "A+B", "BTC/USD", "BINANCE:BTCUSDT", "A=B", "a_1", "0", "-", "^", "..", "", " A", "A\n", "A b", "é", "A\x00", "ſ", "%",
		"twelve_data", "yfinance-1d", "a/x", "Yfinance",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := market.ParseSymbol(text)
			require.Equal(t, err == nil, symbol.MatchString(text))
			_, err = market.ParseProvider(text)
			require.Equal(t, err == nil, provider.MatchString(text))
		})
	}
}

func TestParseSymbol(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]market.Symbol{
		"aapl": "AAPL", "BTC-USD": "BTC-USD", "^gspc": "^GSPC", "eur/usd": "EUR/USD", "a:b_c=1.": "A:B_C=1.",
		"m&m.ns": "M&M.NS", "L&TFH.NS": "L&TFH.NS", "btc+eth": "BTC+ETH", "1": "1", "..A": "..A", "A..": "A..", ".A/B.": ".A/B.",
		strings.Repeat("a", 32): market.Symbol(strings.Repeat("A", 32)),
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			got, err := market.ParseSymbol(in)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	for _, in := range []string{
		"", " ", "A B", "A\n", "ſ", "é", strings.Repeat("A", 33), "A;B", "A\x00", "A%2F", "A\\B", "A?B", "A#B", "A@B", "A,B",
		".", "..", "...", "/", "//", "../..", "&", "+", "-", "A/..", "../A", "A/../B", "./A", "A/.", "A/./B",
	} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			_, err := market.ParseSymbol(in)
			require.Equal(t, "invalid_symbol", fault.CodeOf(err))
		})
	}
}
