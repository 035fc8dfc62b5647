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

// A value is text, without separators between fields of fixed length: the format's tag, the rank (a time of 20 digits and the raw
// response's id of 36), the times of the Put on Redis' clock and on the writer's, observed_at, the price's digits, and after a
// space the currency. All times are microseconds since 1970 in 20 digits. Ranks compare as text. Symbol and provider are in the
// key.
//
// The value has its own time, because a time to live that is read by a second command may belong to another value.
const (
	tag        = "q2:"
	timeLength = 20
	rankEnd    = len(tag) + timeLength + 36
	redisEnd   = rankEnd + timeLength
	writerEnd  = redisEnd + timeLength
	timesEnd   = writerEnd + timeLength
)

// rank returns the head of a value. An undated quote ranks by the time of its id (version 7), when it was received: poll sets the
// observation time of such a quote to its period, so it would lose to one that was fetched before it.
func rank(q market.Quote, id uuid.UUID) string {
	at := q.ObservedAt
	if q.Undated && id.Version() == 7 {
		at = time.Unix(id.Time().UnixTime())
	}
	return tag + digits(at) + id.String()
}

// rest returns the end of a value, after the times of the Put.
func rest(q market.Quote) string { return digits(q.ObservedAt) + q.Price.String() + " " + q.Currency }

func digits(t time.Time) string { return fmt.Sprintf("%020d", t.UnixMicro()) }

var errForeign = errors.New("cache entry is not ours")

// value is a decoded value.
type value struct {
	quote         market.Quote // without symbol and provider
	id            uuid.UUID
	redis, writer time.Time // of the Put, on each clock
}

func decode(text string) (value, error) {
	if len(text) < timesEnd || text[:len(tag)] != tag {
		return value{}, errForeign
	}
	var times [3]time.Time
	for i := range times {
		from := rankEnd + i*timeLength
		micros, err := strconv.ParseInt(text[from:from+timeLength], 10, 64)
		if err != nil {
			return value{}, errForeign
		}
		times[i] = time.UnixMicro(micros).UTC()
	}
	id, err := uuid.Parse(text[len(tag)+timeLength : rankEnd])
	if err != nil {
		return value{}, errForeign
	}
	price, currency, found := strings.Cut(text[timesEnd:], " ")
	exact, err := market.ParsePrice(price)
	if err != nil || !found {
		return value{}, errForeign
	}
	return value{market.Quote{Price: exact, ObservedAt: times[2], Currency: currency}, id, times[0], times[1]}, nil
}
