package main

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"marketdata/shared/postgres"
)

// candidate is a letter that a replay of many comes to, without what it holds.
type candidate struct {
	state
	id     uuid.UUID
	held   bool // a replay of one letter has it
	exact  bool
	origin *place
	bytes  int64 // of what it holds, about
}

const candidateColumns = `id, status, replay_count, correction, replay_id, replay_troubles, replay_expires_at is not null, exact, topic, partition,
	record_offset, coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0) + 4 * pg_column_size(headers)`

func scanCandidate(row pgx.CollectableRow) (c candidate, err error) {
	var topic *string
	var partition *int32
	var offset *int64
	err = row.Scan(&c.id, &c.Status, &c.ReplayCount, &c.Correction, &c.bulk, &c.troubles, &c.held, &c.exact, &topic, &partition, &offset, &c.bytes)
	c.origin = placeOf(topic, partition, offset)
	return c, err
}

// selected gives the letters after the replay's cursor that its filter selects, those that somebody replays just now included.
// Each status is a query of its own, served by the index on it.
func (s *pgStore) selected(ctx context.Context, b bulk, limit int) ([]candidate, error) {
	condition, order := "id > $8 and id <= $9", "id"
	args := append(b.Filter.args(), b.Cursor, b.LastLetter, limit)
	if b.Target != toTopic {
		return s.candidates(ctx, condition, order, args)
	}
	from := place{Partition: -1, Offset: -1}
	if b.At != nil {
		from = *b.At
	} else { // first those that have no place: nothing of them can be sent
		all, err := s.candidates(ctx, condition+" and record_offset is null", order, args)
		if err != nil || len(all) > 0 {
			return all, err
		}
	}
	condition = "record_offset is not null and (topic, partition, record_offset) > ($8, $9, $10) and id <= $11"
	order = "topic, partition, record_offset, id"
	return s.candidates(ctx, condition, order, append(b.Filter.args(), from.Topic, from.Partition, from.Offset, b.LastLetter, limit))
}

func (s *pgStore) candidates(ctx context.Context, condition, order string, args []any) ([]candidate, error) {
	limit := map[bool]string{true: "$10", false: "$12"}[len(args) == 10]
	one := func(status string) string {
		return "(select * from dead_letters where status = '" + status + "' and " + filterCondition + " and " + condition + " order by " + order + " limit " + limit + ")"
	}
	q := "select " + candidateColumns + " from (" + one(statusOpen) + " union all " + one(statusReplaying) + ") l order by " + order + " limit " + limit
	return s.queryCandidates(ctx, q, args...)
}

// owed gives the letters that a replay has taken and given no outcome, those with the fewest troubles first.
func (s *pgStore) owed(ctx context.Context, b bulk, limit int) ([]candidate, error) {
	order := "replay_troubles, id"
	if b.Target == toTopic {
		order = "topic, partition, record_offset, id"
	}
	return s.queryCandidates(ctx, "select "+candidateColumns+" from dead_letters where replay_id = $1 order by "+order+" limit $2", b.ID, limit)
}

// whole reads letters with what they hold.
func (s *pgStore) whole(ctx context.Context, ids []uuid.UUID) ([]stored, error) {
	rows, err := s.pool.Query(ctx, "select "+storedColumns+" from dead_letters where id = any ($1) order by id", ids)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanStored)
	return all, postgres.Classify(err)
}

func (s *pgStore) queryCandidates(ctx context.Context, q string, args ...any) ([]candidate, error) {
	rows, err := s.pool.Query(ctx, q, args...)
	if err != nil {
		return nil, postgres.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanCandidate)
	return all, postgres.Classify(err)
}

// advance is what a replay's row learns in one statement.
type advance struct {
	cursor   *uuid.UUID
	at       *place
	outcomes map[string]int64
	reasons  map[string]int64
	recent   string // new verdicts, oldest first
	stop     string // why it stops by itself; empty: it does not
}

var advanceBulk = advanceOf("true")

// advanceOf is the statement that writes an advance, on a condition.
func advanceOf(condition string) string {
	return `
		update dead_letter_replays
		set cursor = coalesce($3, cursor), cursor_topic = coalesce($4, cursor_topic), cursor_partition = coalesce($5, cursor_partition),
		    cursor_offset = coalesce($6, cursor_offset), outcomes = ` + addCounts("outcomes", "$7::jsonb") + `, reasons = ` + addCounts("reasons", "$8::jsonb") + `,
		    recent = right(recent || $9, 200), trouble = case when $9 <> '' then null else trouble end, lease_expires_at = now() + $10::interval,
		    stop_reason = case when status = 'running' then nullif($11, '') else stop_reason end,
		    finished_at = case when status = 'running' and $11 <> '' then now() else finished_at end,
		    status = case when status = 'running' and $11 <> '' then 'stopped' else status end
		where id = $1 and lease_token = $2 and (status = 'running' or not $12) and ` + condition + `
		returning status`
}

func (a advance) args(b bulk, onlyRunning bool) []any {
	var topic *string
	var partition *int32
	var offset *int64
	if a.at != nil {
		topic, partition, offset = &a.at.Topic, &a.at.Partition, &a.at.Offset
	}
	counts := func(m map[string]int64) map[string]int64 {
		if m == nil {
			return map[string]int64{} // not JSON's null
		}
		return m
	}
	return []any{b.ID, b.token, a.cursor, topic, partition, offset, counts(a.outcomes), counts(a.reasons), a.recent, bulkLease, a.stop, onlyRunning}
}

// errLost means that a replay has ended, or somebody else advances it by now: nothing was written.
var errLost = errors.New("the replay is not ours any more")

// note writes what a replay's row learns.
func (s *pgStore) note(ctx context.Context, b bulk, a advance) error {
	tag, err := s.pool.Exec(ctx, advanceBulk, a.args(b, true)...)
	if err == nil && tag.RowsAffected() == 0 {
		return errLost
	}
	return postgres.Classify(err)
}

// take is a letter that a replay takes.
type take struct {
	id    uuid.UUID
	token uuid.UUID
	count int  // replays it had when it was looked at
	begin bool // false: somebody replays it just now, and the replay waits for that
}

// claim takes letters and moves the cursor past them, in one transaction, and gives those that are under way now, whole. What has
// changed since it was looked at is marked as owed instead. freed are letters owed before whose outcome a notes. errLost.
func (s *pgStore) claim(ctx context.Context, b bulk, a advance, takes []take, freed []uuid.UUID) ([]stored, error) {
	ids, tokens := make([]uuid.UUID, len(takes)), make([]uuid.UUID, len(takes))
	counts, begins := make([]int32, len(takes)), make([]bool, len(takes))
	for i, t := range takes {
		ids[i], tokens[i], counts[i], begins[i] = t.id, t.token, int32(t.count), t.begin //nolint:gosec // a column's own value
	}
	const letters = `
		with taken as (
			update dead_letters l
			set replay_id = $1,
			    status = case when l.status = 'open' and l.replay_count = k.count and k.begin then 'replaying' else l.status end,
			    replay_token = case when l.status = 'open' and l.replay_count = k.count and k.begin then k.token else l.replay_token end
			from unnest($3::uuid[], $4::uuid[], $5::integer[], $6::boolean[]) as k (id, token, count, begin)
			where l.id = k.id and (l.replay_id is null or l.replay_id = $1)
				and exists (select from dead_letter_replays where id = $1 and lease_token = $2 and status = 'running')
			returning l.*, coalesce(l.replay_token = k.token, false) ours),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after)
			select t.id, r.who, 'replay', r.reason, jsonb_build_object('status', 'open', 'replay_count', t.replay_count, 'correction', t.correction),
				jsonb_build_object('status', 'replaying', 'replay_count', t.replay_count, 'correction', t.correction)
			from taken t, dead_letter_replays r
			where ours and r.id = $1)
		select ` + storedColumns + ` from taken where ours`
	var all []stored
	err := postgres.Retry(ctx, func() error {
		var batch pgx.Batch
		held := false
		batch.Queue(advanceBulk, a.args(b, true)...).Query(func(rows pgx.Rows) error {
			held = rows.Next()
			rows.Close()
			return rows.Err()
		})
		if len(takes) > 0 {
			batch.Queue(letters, b.ID, b.token, ids, tokens, counts, begins).Query(func(rows pgx.Rows) (err error) {
				all, err = pgx.CollectRows(rows, scanStored)
				return err
			})
		}
		if len(freed) > 0 {
			batch.Queue("update dead_letters set replay_id = null, replay_troubles = 0 where replay_id = $1 and id = any ($2)", b.ID, freed)
		}
		if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		if !held {
			return errLost
		}
		return nil
	})
	if errors.Is(err, errLost) {
		return nil, err
	}
	return all, postgres.Classify(err)
}

// result is what came of a letter that a replay had under way.
type result struct {
	letter  stored // as it was claimed
	after   state
	owed    bool // it has no outcome yet
	verdict verdict
}

// settle writes the results of letters under way and what the replay's row learns of them, in one transaction: each outcome is
// counted once, also when settle is called again after an attempt whose answer was lost. errLost: the letters are somebody
// else's by now.
func (s *pgStore) settle(ctx context.Context, b bulk, a advance, all []result) error {
	var settled bool
	err := postgres.Retry(ctx, func() error {
		var batch pgx.Batch
		batch.Queue(settleLetters, append(a.args(b, false), columns(all)...)...).Query(func(rows pgx.Rows) error {
			settled = rows.Next()
			rows.Close()
			return rows.Err()
		})
		if a.stop != "" {
			batch.Queue("update dead_letters set replay_id = null, replay_troubles = 0 where replay_id = $1 and status <> 'replaying'", b.ID)
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	if err != nil || settled {
		return postgres.Classify(err)
	}
	// Either an attempt before was committed, or the lease was lost.
	q := "select exists (select from dead_letter_replays where id = $1 and lease_token = $2)"
	if err := s.pool.QueryRow(ctx, q, b.ID, b.token).Scan(&settled); err != nil {
		return postgres.Classify(err)
	}
	if !settled {
		return errLost
	}
	return nil
}

var settleLetters = `
		with done as (
			update dead_letters l
			set status = k.status, replay_count = k.count, replay_token = null, replay_troubles = k.troubles,
			    replay_id = case when k.owed and r.status = 'running' then l.replay_id end,
			    failure_count = l.failure_count + k.refused::integer,
			    code = case when k.refused then k.code else l.code end, reason = case when k.refused then k.reason else l.reason end,
			    fingerprint = case when k.refused then k.fingerprint else l.fingerprint end,
			    last_failed_at = case when k.refused then greatest(l.last_failed_at, now()) else l.last_failed_at end
			from unnest($13::uuid[], $14::uuid[], $15::text[], $16::integer[], $17::integer[], $18::boolean[], $19::boolean[], $20::text[], $21::text[],
					$22::text[], $23::text[], $24::integer[]) as k (id, token, status, count, troubles, owed, refused, code, reason, fingerprint, action, was),
				dead_letter_replays r
			where l.id = k.id and l.status = 'replaying' and l.replay_token = k.token and r.id = $1 and r.lease_token = $2
			returning l.id, l.correction, r.who, k.status, k.count, k.was, k.refused, k.code, k.reason, k.action),
		failed as (
			insert into dead_letter_failures (letter_id, code, reason, function, failed_at)
			select id, code, reason, 'replay', now() from done where refused),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after)
			select id, who, action, reason, jsonb_build_object('status', 'replaying', 'replay_count', was, 'correction', correction),
				jsonb_build_object('status', status, 'replay_count', count, 'correction', correction)
			from done)` + advanceOf("exists (select from done)")

// columns are results as the arrays of [settleLetters].
func columns(all []result) []any {
	n := len(all)
	ids, tokens, statuses, actions := make([]uuid.UUID, n), make([]uuid.UUID, n), make([]string, n), make([]string, n)
	counts, troubles, were := make([]int32, n), make([]int32, n), make([]int32, n)
	owed, refused := make([]bool, n), make([]bool, n)
	codes, reasons, fingerprints := make([]string, n), make([]string, n), make([]string, n)
	for i, r := range all {
		ids[i], tokens[i], statuses[i], owed[i] = r.letter.ID, *r.letter.token, r.after.Status, r.owed
		counts[i], troubles[i], were[i] = int32(r.after.ReplayCount), int32(r.after.troubles), int32(r.letter.ReplayCount) //nolint:gosec // small
		codes[i], reasons[i], actions[i] = r.verdict.code, r.verdict.reason, actionOf(r.verdict.outcome)
		if r.verdict.outcome == outcomeRefused {
			refused[i], fingerprints[i] = true, fingerprint(failure{Code: r.verdict.code, Reason: r.verdict.reason})
		}
	}
	return []any{ids, tokens, statuses, counts, troubles, owed, refused, codes, reasons, fingerprints, actions, were}
}
