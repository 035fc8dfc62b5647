package pricecache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/market"
)

// A value is text without separators where lengths are fixed: observed_at in microseconds since 1970 (20 digits), the raw
// response's id (36), the price's digits, and after a space the currency. The first 56 bytes are the quote's rank: they
// order as text as (observed_at, raw_response_id) do. Symbol and provider are in the key.
const (
	timeLength = 20
	rankLength = timeLength + 36
)

func encode(q market.Quote, id uuid.UUID) string {
	return fmt.Sprintf("%020d%s%s %s", q.ObservedAt.UnixMicro(), id, q.Price, q.Currency)
}

var errForeign = errors.New("cache entry is not ours")

// decode reads what encode wrote; symbol and provider are left empty.
func decode(value string) (market.Quote, uuid.UUID, error) {
	if len(value) < rankLength {
		return market.Quote{}, uuid.UUID{}, errForeign
	}
	micros, err := strconv.ParseInt(value[:timeLength], 10, 64)
	if err != nil {
		return market.Quote{}, uuid.UUID{}, errForeign
	}
	id, err := uuid.Parse(value[timeLength:rankLength])
	if err != nil {
		return market.Quote{}, uuid.UUID{}, errForeign
	}
	digits, currency, found := strings.Cut(value[rankLength:], " ")
	price, err := market.ParsePrice(digits)
	if err != nil || !found {
		return market.Quote{}, uuid.UUID{}, errForeign
	}
	return market.Quote{Price: price, ObservedAt: time.UnixMicro(micros).UTC(), Currency: currency}, id, nil
}
