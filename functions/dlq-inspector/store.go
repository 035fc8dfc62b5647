package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// pgStore owns the dead letter tables.
type pgStore struct{ pool *pgxpool.Pool }

// header is a Kafka header in JSON: its value in base64, so that any bytes fit.
type header struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// save stores a letter, or adds a failure to the one of the same identity. Idempotency key of the failure: the place of
// the dead letter record (nil at: none, and every call adds). Errors are Unavailable: unknown means try again.
func (s *pgStore) save(ctx context.Context, l letter, f failure, at *place) error {
	err := postgres.Retry(ctx, func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			id, err := upsertLetter(ctx, tx, l, f)
			if err != nil {
				return err
			}
			return addFailure(ctx, tx, id, f, at)
		})
	})
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "storage_unavailable", "the letter could not be stored").After(time.Second)
	}
	return nil
}

func upsertLetter(ctx context.Context, tx pgx.Tx, l letter, f failure) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("make id: %w", err)
	}
	headers, err := json.Marshal(wireHeaders(l.Headers))
	if err != nil {
		return id, fmt.Errorf("encode headers: %w", err)
	}
	attributes, err := json.Marshal(l.Attributes)
	if err != nil {
		return id, fmt.Errorf("encode attributes: %w", err)
	}
	sum := sha256.Sum256(l.Value)
	identity := "(event_source, event_id, value_sha256) where record_offset is null"
	var topic *string
	var partition *int32
	var offset *int64
	if l.Origin != nil {
		topic, partition, offset = &l.Origin.Topic, &l.Origin.Partition, &l.Origin.Offset
		identity = "(topic, partition, record_offset, value_sha256) where record_offset is not null"
	}
	var recorded *time.Time
	if !l.RecordedAt.IsZero() {
		recorded = &l.RecordedAt
	}
	// The conflict takes the row's lock and changes nothing: addFailure knows whether the failure is new.
	q := `
		insert into dead_letters as l
			(id, topic, partition, record_offset, recorded_at, exact, event_source, event_id, value_sha256, key, value, headers,
			 attributes, content_type, code, reason, fingerprint, symbol, first_failed_at, last_failed_at, correction)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, nullif($18, ''), $19, $19, $20)
		on conflict ` + identity + ` do update set id = l.id
		returning id`
	err = tx.QueryRow(ctx, q, id, topic, partition, offset, recorded, l.Exact, l.Attributes["source"], l.Attributes["id"], sum[:],
		l.Key, l.Value, headers, attributes, clean(l.ContentType), f.Code, f.Reason, fingerprint(f), l.Symbol, f.FailedAt,
		correctionOf(l.Attributes)).Scan(&id)
	if err != nil {
		return id, fmt.Errorf("store letter: %w", err)
	}
	return id, nil
}

// addFailure records one more refusal, unless its dead letter record is known already. A letter that was sent to its
// topic and comes back is open again; what an operator settled stays settled.
func addFailure(ctx context.Context, tx pgx.Tx, id uuid.UUID, f failure, at *place) error {
	var topic *string
	var partition *int32
	var offset *int64
	if at != nil {
		topic, partition, offset = &at.Topic, &at.Partition, &at.Offset
	}
	const insert = `
		insert into dead_letter_failures (letter_id, dlq_topic, dlq_partition, dlq_offset, code, reason, function, failed_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8)
		on conflict on constraint dead_letter_failures_record do nothing`
	tag, err := tx.Exec(ctx, insert, id, topic, partition, offset, f.Code, f.Reason, f.Function, f.FailedAt)
	if err != nil {
		return fmt.Errorf("record failure: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	const count = `
		update dead_letters
		set failure_count = failure_count + 1, code = $2, reason = $3, fingerprint = $4,
		    first_failed_at = least(first_failed_at, $5), last_failed_at = greatest(last_failed_at, $5),
		    status = case when status = 'sent' then 'open' else status end
		where id = $1`
	if _, err := tx.Exec(ctx, count, id, f.Code, f.Reason, fingerprint(f), f.FailedAt); err != nil {
		return fmt.Errorf("count failure: %w", err)
	}
	return nil
}

func wireHeaders(headers []kafkaclient.Header) []header {
	out := make([]header, len(headers))
	for i, h := range headers {
		out[i] = header{clean(h.Name), h.Value}
	}
	return out
}

func notFound(err error) error {
	if err = postgres.Classify(err); err != nil && fault.CodeOf(err) == "not_found" {
		return fault.Wrap(err, fault.NotFound, "message_not_found", "there is no such dead letter")
	}
	return err
}
