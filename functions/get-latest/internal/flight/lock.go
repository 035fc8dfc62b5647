package flight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/redisclient"
)

// lockBudget bounds one round trip.
const lockBudget = 250 * time.Millisecond

// series identifies what a fetch fetches.
type series struct {
	provider string
	symbol   market.Symbol
}

// locks is the state that replicas share in Redis: for each series a lock, and for a short time the error of the last fetch.
type locks struct {
	client  redis.Cmdable
	batches *redisclient.Batcher
	prefix  string
	cache   *pricecache.Cache
	lease   time.Duration // of a lock: longer than any fetch
}

// seen is the result of a look at a series.
type seen struct {
	held    bool             // this call took the lock
	entry   pricecache.Entry // may be stale, or zero
	failure error            // the last fetch's error, while it is shared
}

func (s seen) fresh() bool { return s.entry.Left > 0 }

// freeScript releases the lock if it is still ours. A holder whose lease has expired changes nothing.
var freeScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
return redis.call('DEL', KEYS[1])
`)

func (l locks) keys(s series) []string {
	name := s.provider + ":" + string(s.symbol)
	return []string{l.prefix + "lock:" + name, l.prefix + "failure:" + name}
}

// look tries to take the lock, then reads the last failure and the cache, all in one round trip. If a failure is still shared, it
// releases the lock again. A cache that cannot be read counts as empty. An error means that the lock's holder is unknown.
func (l locks) look(ctx context.Context, s series, token string) (seen, error) {
	keys := l.keys(s)
	var taken *redis.BoolCmd
	var failure *redis.StringCmd
	var cached *pricecache.Lookup
	l.batches.Do(ctx, func(p redis.Pipeliner) {
		taken = p.SetNX(ctx, keys[0], token, l.lease)
		failure = p.Get(ctx, keys[1])
		cached = l.cache.Queue(ctx, p, s.provider, s.symbol)
	})
	held, err := taken.Result()
	if err != nil {
		return seen{}, fmt.Errorf("take lock: %w", err)
	}
	out := seen{held: held}
	if text, err := failure.Result(); err == nil {
		out.failure = decodeFailure(text)
		if held {
			out.held = false
			if err := l.free(ctx, s, token, nil); err != nil {
				return seen{}, err
			}
		}
	}
	if entry, found, err := cached.Entry(0); err == nil && found {
		out.entry = entry
	}
	return out, nil
}

// free releases the lock and stores failure, if any, for the replicas that wait.
func (l locks) free(ctx context.Context, s series, token string, failure error) error {
	ctx, cancel := context.WithTimeout(ctx, lockBudget)
	defer cancel()
	text := ""
	if failure != nil {
		text = encodeFailure(failure)
	}
	if err := freeScript.Run(ctx, l.client, l.keys(s), token, text, outcomeKept.Milliseconds()).Err(); err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}

// keep offers a fetched price to the cache and releases the lock in one step.
func (l locks) keep(ctx context.Context, s series, token string, fetched ingest.Result) (pricecache.Entry, error) {
	var lock pricecache.Lock
	if token != "" {
		lock = pricecache.Lock{Key: l.keys(s)[0], Token: token}
	}
	var answer func(context.Context) (pricecache.Entry, error)
	l.batches.Do(ctx, func(p redis.Pipeliner) { answer = l.cache.Offer(ctx, p, fetched.Quote, fetched.RawResponseID, lock) })
	entry, err := answer(ctx)
	if err != nil && token != "" {
		err = errors.Join(err, l.free(ctx, s, token, nil))
	}
	return entry, err
}

// wire is an error as replicas share it: what a client may see, never the cause.
type wire struct {
	Kind         fault.Kind `json:"kind"`
	Code         string     `json:"code"`
	Detail       string     `json:"detail,omitempty"`
	RetryAfterMS int64      `json:"retry_after_ms,omitempty"`
}

func encodeFailure(err error) string {
	w := wire{Kind: fault.KindOf(err), Code: fault.CodeOf(err)}
	if f, ok := fault.As(err); ok {
		w.Detail, w.RetryAfterMS = f.Detail, f.RetryAfter.Milliseconds()
	}
	text, err := json.Marshal(w)
	if err != nil { // impossible: numbers and strings always marshal
		return ""
	}
	return string(text)
}

// longestWait is longer than any provider's ban.
const longestWait = 100 * time.Hour

func decodeFailure(text string) error {
	var w wire
	if err := json.Unmarshal([]byte(text), &w); err != nil || w.Code == "" {
		return fault.Wrap(err, fault.Unavailable, fault.CodeProviderUnavailable, "the provider failed a moment ago")
	}
	return fault.New(w.Kind, w.Code, "%s", w.Detail).After(time.Duration(min(max(w.RetryAfterMS, 0), longestWait.Milliseconds())) * time.Millisecond)
}
