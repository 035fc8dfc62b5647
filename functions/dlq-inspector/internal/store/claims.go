package store

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
)

// candidateColumns are those of [scanCandidate].
const candidateColumns = `id, status, replay_count, correction, replay_id, replay_troubles, exact, topic, partition,
	record_offset, coalesce(octet_length(value), 0) + coalesce(octet_length(key), 0) + 4 * pg_column_size(headers)`

func scanCandidate(row pgx.CollectableRow) (c replay.Candidate, err error) {
	var origin place
	err = row.Scan(&c.ID, &c.Status, &c.ReplayCount, &c.Correction, &c.Bulk, &c.Troubles, &c.Exact, &origin.topic, &origin.partition, &origin.offset, &c.Bytes)
	c.Origin = origin.get()
	return c, err
}

// searched is the text that Q is looked for in: what a list looks into, so that no letter is replayed or discarded that no list shows.
const searched = `case when (` + hasSearch + `) then dead_letter_text(code, reason, symbol, event_source, event_id, value)
			else lower(concat_ws(' ', code, reason, symbol, event_source, event_id)) end`

// filterCondition is a filter in SQL, with [filterArgs] as $1 to $8.
var filterCondition = `($1 = '' or status = $1) and ($2 = '' or fingerprint = $2) and ($3 = '' or symbol = $3) and ($4 = '' or topic = $4)
			and ($5::timestamptz is null or last_failed_at >= $5) and ($6::timestamptz is null or last_failed_at < $6)
			and ($7 = '' or ` + like(searched, "$7", "$8") + ")"

func filterArgs(f letter.Filter) []any {
	symbol := strings.ToUpper(f.Symbol) // symbols are stored in upper case
	found, inValue := "", ""
	switch {
	case f.Short() && (symbol == "" || symbol == strings.ToUpper(f.Q)):
		symbol = strings.ToUpper(f.Q)
	case f.Short():
		found = "a letter has one symbol" // without a wildcard: no letter's whole text
	case f.Q != "":
		found, inValue = patterns(f.Q)
	}
	return []any{f.Status, f.Fingerprint, symbol, f.Topic, f.Since, f.Until, found, inValue}
}

// Queries for the letters that a filter selects and that are open or in flight, after a cursor. The index of the places has them in the
// order of a replay to topics, so an index that has the status must not be used there: it would be read and sorted from the start each time.
var (
	selectAfterID       = selection("status", "id > $9 and id <= $10", "id", "$11", "$12")
	selectWithoutOrigin = selection("status", "id > $9 and id <= $10 and record_offset is null", "id", "$11", "$12")
	selectAfterOrigin   = selection("status || ''", "record_offset is not null and (topic, partition, record_offset) > ($9, $10, $11) and id <= $12",
		"topic, partition, record_offset", "$13", "$14")
)

// selection returns a query for all letters, and one for those among ids. It asks for each of the two statuses, because an index serves
// each.
func selection(actual, condition, order, limit, ids string) (among map[bool]string) {
	one := func(from string, status letter.Status) string {
		return "(select * from " + from + " where " + actual + " = '" + string(status) + "' and " + filterCondition + " and " + condition +
			" order by " + order + " limit " + limit + ")"
	}
	both := func(from string) string {
		return "select " + candidateColumns + " from (" + one(from, letter.Open) + " union all " + one(from, letter.Replaying) + ") l order by " + order + " limit " + limit
	}
	return map[bool]string{
		false: both("dead_letters"), true: both("(select l.* from unnest(" + ids + "::uuid[]) i (id) join dead_letters l using (id)) l"),
	}
}

// Selected returns the letters after the replay's cursor that its filter selects, with those that are in flight elsewhere. A replay to
// topics goes by origin; the letters without one come first, because they cannot be sent.
func (s *Store) Selected(ctx context.Context, b replay.Bulk, limit int) ([]replay.Candidate, error) {
	among := b.Filter.IDs != nil
	args := func(cursor ...any) []any {
		all := append(append(filterArgs(b.Filter), cursor...), b.LastLetter, limit)
		if among {
			all = append(all, b.Filter.IDs)
		}
		return all
	}
	if b.Target != replay.ToTopic {
		return s.candidates(ctx, selectAfterID[among], args(b.Cursor)...)
	}
	from := kafkaclient.Place{Partition: -1, Offset: -1}
	if b.At != nil {
		from = *b.At
	} else {
		all, err := s.candidates(ctx, selectWithoutOrigin[among], args(b.Cursor)...)
		if err != nil || len(all) > 0 {
			return all, err
		}
	}
	return s.candidates(ctx, selectAfterOrigin[among], args(from.Topic, from.Partition, from.Offset)...)
}

// Owed returns the letters that a replay has taken and that have no outcome yet: those with the fewest troubles first, or by origin if
// they are sent to topics.
func (s *Store) Owed(ctx context.Context, b replay.Bulk, limit int) ([]replay.Candidate, error) {
	const (
		owed       = "select " + candidateColumns + " from dead_letters where replay_id = $1"
		byTroubles = owed + " order by replay_troubles, id limit $2"
		byOrigin   = owed + " order by topic, partition, record_offset, id limit $2"
	)
	if b.Target == replay.ToTopic {
		return s.candidates(ctx, byOrigin, b.ID, limit)
	}
	return s.candidates(ctx, byTroubles, b.ID, limit)
}

func (s *Store) candidates(ctx context.Context, q string, args ...any) ([]replay.Candidate, error) {
	rows, err := postgres.NewIndexed(s.pool, 0).Query(ctx, q, args...)
	return collect(rows, err, scanCandidate)
}

// advance adds an advance to a replay's row, if this process has its lease and a condition holds. Its parameters are [advanceArgs].
func advance(condition string) string {
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

func advanceArgs(b replay.Bulk, a replay.Advance, onlyRunning bool) []any {
	at := columnsOf(a.At)
	return []any{
		b.ID, b.Lease, a.Cursor, at.topic, at.partition, at.offset, counts(a.Outcomes), counts(a.Reasons), a.Recent, replay.BulkLease, a.Stop, onlyRunning,
	}
}

// counts returns an empty map for nil, which would be JSON's null.
func counts[K ~string](m map[K]int64) map[K]int64 {
	if m == nil {
		return map[K]int64{}
	}
	return m
}

// addCounts returns the sum of two JSON objects of counts, in SQL.
func addCounts(column, other string) string {
	return `(select coalesce(jsonb_object_agg(key, n), '{}') from (
			select key, sum(value::bigint) n
			from (select * from jsonb_each_text(` + column + `) union all select * from jsonb_each_text(` + other + `)) c
			group by key) sums)`
}

// Note adds an advance to a replay's row. ErrLost.
func (s *Store) Note(ctx context.Context, b replay.Bulk, a replay.Advance) error {
	var batch pgx.Batch
	queueAdvance(&batch, b, a)
	return lost(s.pool.SendBatch(ctx, &batch).Close())
}

// mustAdvance divides by zero if this process does not have the lease of the running replay, which rolls the transaction back; see [lost].
var mustAdvance = "with advanced as (" + advance("true") + ") select 1 / count(*) from advanced"

// queueAdvance adds an advance and its verdicts to a batch, which is one transaction, and comes last in it: the replay's row is locked
// until the commit, and each batch of letters needs it.
func queueAdvance(batch *pgx.Batch, b replay.Bulk, a replay.Advance) {
	queueVerdicts(batch, b, a)
	batch.Queue(mustAdvance, advanceArgs(b, a, true)...)
}

// lost classifies an error of a transaction with [mustAdvance]: ErrLost if it was rolled back because another process has the lease.
func lost(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "22012" { // division_by_zero
		return replay.ErrLost
	}
	return postgres.Classify(err)
}

// queueVerdicts adds the verdicts that are kept, and samples, to a batch.
func queueVerdicts(batch *pgx.Batch, b replay.Bulk, a replay.Advance) {
	if len(a.Samples) > 0 {
		const q = `
			update dead_letter_replays set samples = jsonb_path_query_array(samples || $3::jsonb, '$[0 to 9]')
			where id = $1 and lease_token = $2` // MaxSamples
		batch.Queue(q, b.ID, b.Lease, a.Samples)
	}
	if len(a.Verdicts) == 0 {
		return
	}
	const q = `
		insert into dead_letter_verdicts (replay_id, letter_id, outcome, code, reason)
		select $1, v.*
		from unnest($3::uuid[], $4::text[], $5::text[], $6::text[]) v
		where exists (select from dead_letter_replays where id = $1 and lease_token = $2)
		on conflict on constraint dead_letter_verdicts_pk do nothing`
	batch.Queue(q, b.ID, b.Lease, uuids(a.Verdicts, func(v replay.LetterVerdict) uuid.UUID { return v.ID }),
		column(a.Verdicts, func(v replay.LetterVerdict) string { return string(v.Verdict.Outcome) }),
		column(a.Verdicts, func(v replay.LetterVerdict) string { return v.Verdict.Code }),
		column(a.Verdicts, func(v replay.LetterVerdict) string { return letter.Clean(v.Verdict.Reason) }))
}

// Discard discards those of the letters that are open, with an entry in the audit trail, and adds the advance that counts them and the
// others, in one transaction. ErrLost.
func (s *Store) Discard(ctx context.Context, b replay.Bulk, a replay.Advance, ids []uuid.UUID) (replay.Advance, error) {
	const q = `
		with done as (
			update dead_letters
			set status = 'discarded'
			where id = any ($2) and status = 'open' and replay_id is null
			returning id, replay_count, correction),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after)
			select d.id, r.who, 'discard', r.reason, jsonb_build_object('status', 'open', 'replay_count', replay_count, 'correction', correction),
				jsonb_build_object('status', 'discarded', 'replay_count', replay_count, 'correction', correction)
			from done d, dead_letter_replays r
			where r.id = $1)
		select id from done`
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q, b.ID, ids)
		if err != nil {
			return err
		}
		done, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		a = a.Discarded(ids, done)
		var batch pgx.Batch
		queueAdvance(&batch, b, a)
		return tx.SendBatch(ctx, &batch).Close()
	})
	return a, lost(err)
}

// These take the mark of a replay off letters.
const (
	freeLetters = "update dead_letters set replay_id = null, replay_troubles = 0 where replay_id = $1"
	freeChosen  = freeLetters + " and id = any ($2)"
	freeAtRest  = freeLetters + " and status <> 'replaying'"
)

// Claim takes letters and moves the cursor past them, in one transaction, and returns those that are in flight now, with their
// contents. A letter that has changed since it was looked up is marked as owed instead. freed are letters owed before, whose outcome
// the advance counts. ErrLost.
func (s *Store) Claim(ctx context.Context, b replay.Bulk, a replay.Advance, takes []replay.Take, freed []uuid.UUID) ([]letter.Stored, error) {
	counts, begins, values := make([]int32, len(takes)), make([]bool, len(takes)), make([][]byte, len(takes))
	for i, t := range takes {
		counts[i], begins[i], values[i] = int32(t.Count), t.Begin, t.Value //nolint:gosec // a column's own value
	}
	const letters = `
		with taken as (
			update dead_letters l
			set replay_id = $1,
			    status = case when l.status = 'open' and l.replay_count = k.count and k.begin then 'replaying' else l.status end,
			    replay_token = case when l.status = 'open' and l.replay_count = k.count and k.begin then k.token else l.replay_token end,
			    correction = l.correction + (l.status = 'open' and l.replay_count = k.count and k.begin and k.value is not null)::integer
			from unnest($2::uuid[], $3::uuid[], $4::integer[], $5::boolean[], $6::bytea[]) as k (id, token, count, begin, value)
			where l.id = k.id and (l.replay_id is null or l.replay_id = $1)
			returning l.*, k.value sent, coalesce(l.replay_token = k.token, false) ours),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after, value)
			select t.id, r.who, 'replay', r.reason,
				jsonb_build_object('status', 'open', 'replay_count', t.replay_count, 'correction', t.correction - (t.sent is not null)::integer),
				jsonb_build_object('status', 'replaying', 'replay_count', t.replay_count, 'correction', t.correction), t.sent
			from taken t, dead_letter_replays r
			where ours and r.id = $1)
		select ` + storedColumns + ` from taken where ours`
	ids, tokens := uuids(takes, func(t replay.Take) uuid.UUID { return t.ID }), uuids(takes, func(t replay.Take) uuid.UUID { return t.Token })
	var all []letter.Stored
	err := postgres.Retry(ctx, func() error {
		var batch pgx.Batch
		if len(takes) > 0 {
			batch.Queue(letters, b.ID, ids, tokens, counts, begins, values).Query(func(rows pgx.Rows) (err error) {
				all, err = pgx.CollectRows(rows, scanStored)
				return err
			})
		}
		if len(freed) > 0 {
			batch.Queue(freeChosen, b.ID, freed)
		}
		queueAdvance(&batch, b, a)
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	if err != nil {
		return nil, lost(err)
	}
	return all, nil
}

// Settle writes the results of letters in flight and adds the advance that counts them, in one transaction. Each outcome is counted
// once, even if Settle is called again because the answer to an earlier attempt was lost. ErrLost: another process has the letters.
func (s *Store) Settle(ctx context.Context, b replay.Bulk, a replay.Advance, all []replay.Result) error {
	var settled bool
	results := resultColumns(all)
	err := postgres.Retry(ctx, func() error {
		var batch pgx.Batch
		// The letters' counts are locked before the replay's row, as by Claim.
		batch.Queue(settleLetters, append([]any{b.ID, b.Lease}, results...)...)
		batch.Queue(advanceSettled, append(advanceArgs(b, a, false), results[0])...).QueryRow(func(row pgx.Row) error {
			var whole int
			return row.Scan(&settled, &whole)
		})
		queueVerdicts(&batch, b, a)
		if a.Stop != "" {
			batch.Queue(freeAtRest, b.ID)
		}
		return s.pool.SendBatch(ctx, &batch).Close()
	})
	if err != nil || settled {
		return lost(err)
	}
	// Nothing was updated: an earlier attempt was committed, or the lease is lost.
	const q = "select exists (select from dead_letter_replays where id = $1 and lease_token = $2)"
	if err := s.pool.QueryRow(ctx, q, b.ID, b.Lease).Scan(&settled); err != nil {
		return postgres.Classify(err)
	}
	if !settled {
		return replay.ErrLost
	}
	return nil
}

// advanceSettled is an advance if this transaction has settled the letters in $13. If an earlier one has, they were counted then. If the
// lease was lost since they were settled, it divides by zero, which rolls the transaction back: they would never be counted.
var advanceSettled = "with advanced as (" + advance(settledHere) + ") select count(*) = 1, 1 / (count(*) + (not " + settledHere + ")::integer) from advanced"

const settledHere = "exists (select from dead_letters where id = any ($13) and xmin = pg_current_xact_id()::xid)"

// settleLetters has the parameters [resultColumns], after a replay and its lease. A letter has a token only while it is replaying. A
// condition on the status would lead the planner to an index on it, of which only dead entries are left behind a replay.
const settleLetters = `
		with done as (
			update dead_letters l
			set status = k.status, replay_count = k.count, replay_token = null, replay_troubles = k.troubles,
			    replay_id = case when k.owed and r.status = 'running' then l.replay_id end,
			    failure_count = l.failure_count + k.refused::integer,
			    code = case when k.refused then k.code else l.code end, reason = case when k.refused then k.reason else l.reason end,
			    fingerprint = case when k.refused then k.fingerprint else l.fingerprint end,
			    last_failed_at = case when k.refused then greatest(l.last_failed_at, now()) else l.last_failed_at end
			from unnest($3::uuid[], $4::uuid[], $5::text[], $6::integer[], $7::integer[], $8::boolean[], $9::boolean[], $10::text[], $11::text[],
					$12::text[], $13::text[], $14::integer[]) as k (id, token, status, count, troubles, owed, refused, code, reason, fingerprint, action, was),
				dead_letter_replays r
			where l.id = k.id and l.replay_token = k.token and r.id = $1 and r.lease_token = $2
			returning l.id, l.correction, r.who, k.status, k.count, k.was, k.refused, k.code, k.reason, k.action),
		failed as (
			insert into dead_letter_failures (letter_id, code, reason, function, failed_at)
			select id, code, reason, 'replay', now() from done where refused),
		noted as (
			insert into dead_letter_audit (letter_id, who, action, reason, before, after)
			select id, who, action, reason, jsonb_build_object('status', 'replaying', 'replay_count', was, 'correction', correction),
				jsonb_build_object('status', status, 'replay_count', count, 'correction', correction)
			from done)
		select from done`

// resultColumns returns results as arrays, which are $3 to $14.
func resultColumns(all []replay.Result) []any {
	n := len(all)
	ids, tokens := uuids(all, func(r replay.Result) uuid.UUID { return r.Letter.ID }), uuids(all, func(r replay.Result) uuid.UUID { return *r.Letter.Token })
	statuses, actions := make([]string, n), make([]string, n)
	counts, troubles, were := make([]int32, n), make([]int32, n), make([]int32, n)
	owed, refused := make([]bool, n), make([]bool, n)
	codes, reasons, fingerprints := make([]string, n), make([]string, n), make([]string, n)
	for i, r := range all {
		statuses[i], owed[i] = string(r.After.Status), r.Owed
		counts[i], troubles[i], were[i] = int32(r.After.ReplayCount), int32(r.After.Troubles), int32(r.Letter.ReplayCount) //nolint:gosec // small
		codes[i], reasons[i], actions[i] = r.Verdict.Code, r.Verdict.Reason, string(r.Verdict.Outcome.Action())
		if r.Verdict.Outcome == letter.OutcomeRefused {
			refused[i], fingerprints[i] = true, letter.Fingerprint(r.Verdict.Code, r.Verdict.Reason)
		}
	}
	return []any{ids, tokens, statuses, counts, troubles, owed, refused, codes, reasons, fingerprints, actions, were}
}
