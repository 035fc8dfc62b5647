package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// pgStore owns the dead letter tables.
type pgStore struct{ pool *pgxpool.Pool }

// header is a Kafka header in JSON: its value in base64, so that any bytes fit; null is told from empty.
type header struct {
	Name  string `json:"name"`
	Raw   []byte `json:"raw_name,omitempty"` // the name's own bytes where they are no text
	Value []byte `json:"value"`
}

// kafka gives the header as the record has it.
func (h header) kafka() kafkaclient.Header {
	if h.Raw != nil {
		return kafkaclient.Header{Name: string(h.Raw), Value: h.Value}
	}
	return kafkaclient.Header{Name: h.Name, Value: h.Value}
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
		out[i] = header{Name: clean(h.Name), Value: h.Value}
		if out[i].Name != h.Name {
			out[i].Raw = []byte(h.Name)
		}
	}
	return out
}

func notFound(err error) error {
	if err = postgres.Classify(err); err != nil && fault.CodeOf(err) == "not_found" {
		return fault.Wrap(err, fault.NotFound, "message_not_found", "there is no such dead letter")
	}
	return err
}
