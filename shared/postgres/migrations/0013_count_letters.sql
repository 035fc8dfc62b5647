-- Letters are counted when they are written, so that groups and counts of a million take no longer than those of ten. Writer: triggers
-- of dead_letters, so that no statement can forget it, and the running version keeps the counts, too. Letters that exist are counted
-- after this migration, in steps (package migrate): counted is false for them until then.
alter table dead_letters add column counted boolean not null default false;
alter table dead_letters alter column counted set default true;
create index dead_letters_uncounted on dead_letters (id) where not counted;

-- The sum over all slots counts. A writer has the slot of its backend, so that transactions rarely wait for each other; a tick of
-- dlq-inspector brings them together in slot 0.
create table dead_letter_counts (
  fingerprint text        not null,
  status      text        not null,
  slot        smallint    not null,
  letters     bigint      not null, -- of one slot alone it may be negative
  code        text        not null,
  reason      text        not null,
  first       timestamptz not null, -- the earliest failure that the group has had
  last        timestamptz not null,
  constraint dead_letter_counts_pk primary key (fingerprint, status, slot)
) with (fillfactor = 70);

-- Failures by hour (UTC) of the last days.
create table dead_letter_hours (
  fingerprint text        not null,
  hour        timestamptz not null,
  slot        smallint    not null,
  failures    bigint      not null,
  constraint dead_letter_hours_pk primary key (fingerprint, hour, slot)
) with (fillfactor = 70);
create index dead_letter_hours_by_hour on dead_letter_hours (hour);

-- What a search looks into, without the cost of a trigram index for every arrival: letters wait in dead_letters_to_index until a tick
-- of dlq-inspector writes their text. The index needs the extension pg_trgm; package migrate creates both if the database permits it.
create table dead_letter_texts (
  letter_id uuid not null constraint dead_letter_texts_pk primary key constraint dead_letter_texts_letter references dead_letters (id) on delete cascade,
  text      text not null
);
create table dead_letters_to_index (
  letter_id uuid not null constraint dead_letters_to_index_pk primary key
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The text that a search looks into, in lower case. Bytes of the value that are not ASCII are octal escapes, so that any value has a
-- text; what is searched for is escaped in the same way. The value counts up to 64 KiB.
create function dead_letter_text(code text, reason text, symbol text, source text, id text, value bytea) returns text
  language sql immutable parallel safe as $$
  select lower(code || ' ' || reason || ' ' || coalesce(symbol, '') || ' ' || source || ' ' || id || ' ' ||
    coalesce(encode(substring(value from 1 for 65536), 'escape'), ''))
$$;

create function dead_letter_slot() returns smallint language sql stable as 'select (1 + pg_backend_pid() % 16)::smallint';

create function count_new_dead_letters() returns trigger language plpgsql as $$
begin
  insert into dead_letter_counts as c (fingerprint, status, slot, letters, code, reason, first, last)
  select fingerprint, status, dead_letter_slot(), count(*), min(code), min(reason), min(first_failed_at), max(last_failed_at)
  from new_letters
  where counted
  group by fingerprint, status
  order by fingerprint, status
  on conflict (fingerprint, status, slot) do update
  set letters = c.letters + excluded.letters, first = least(c.first, excluded.first), last = greatest(c.last, excluded.last);
  insert into dead_letter_hours as h (fingerprint, hour, slot, failures)
  select fingerprint, date_trunc('hour', last_failed_at, 'UTC'), dead_letter_slot(), sum(failure_count)
  from new_letters
  where counted and last_failed_at > now() - interval '2 days' and last_failed_at < now() + interval '1 day'
  group by 1, 2
  order by 1, 2
  on conflict (fingerprint, hour, slot) do update set failures = h.failures + excluded.failures;
  insert into dead_letters_to_index select id from new_letters where counted;
  return null;
end $$;

create function count_changed_dead_letters() returns trigger language plpgsql as $$
begin
  insert into dead_letter_counts as c (fingerprint, status, slot, letters, code, reason, first, last)
  select fingerprint, status, dead_letter_slot(), sum(n), min(code), min(reason), min(first_failed_at), max(last_failed_at)
  from (
    select fingerprint, status, -1 as n, code, reason, first_failed_at, last_failed_at from old_letters where counted
    union all
    select fingerprint, status, 1, code, reason, first_failed_at, last_failed_at from new_letters where counted) d
  group by fingerprint, status
  having sum(n) <> 0 or max(last_failed_at) > max(last_failed_at) filter (where n < 0)
  order by fingerprint, status
  on conflict (fingerprint, status, slot) do update
  set letters = c.letters + excluded.letters, first = least(c.first, excluded.first), last = greatest(c.last, excluded.last);
  insert into dead_letter_hours as h (fingerprint, hour, slot, failures)
  select n.fingerprint, date_trunc('hour', n.last_failed_at, 'UTC'), dead_letter_slot(),
    sum(n.failure_count - case when o.counted then o.failure_count else 0 end)
  from new_letters n
  join old_letters o using (id)
  where n.counted and (n.failure_count > o.failure_count or not o.counted)
    and n.last_failed_at > now() - interval '2 days' and n.last_failed_at < now() + interval '1 day'
  group by 1, 2
  order by 1, 2
  on conflict (fingerprint, hour, slot) do update set failures = h.failures + excluded.failures;
  insert into dead_letters_to_index
  select id
  from new_letters n
  join old_letters o using (id)
  where n.counted and (not o.counted or n.code <> o.code or n.reason <> o.reason)
  on conflict do nothing;
  return null;
end $$;

create function count_deleted_dead_letters() returns trigger language plpgsql as $$
begin
  insert into dead_letter_counts as c (fingerprint, status, slot, letters, code, reason, first, last)
  select fingerprint, status, dead_letter_slot(), -count(*), min(code), min(reason), min(first_failed_at), max(last_failed_at)
  from old_letters
  where counted
  group by fingerprint, status
  order by fingerprint, status
  on conflict (fingerprint, status, slot) do update set letters = c.letters + excluded.letters;
  return null;
end $$;

create trigger dead_letters_inserted after insert on dead_letters referencing new table as new_letters
  for each statement execute function count_new_dead_letters();
create trigger dead_letters_updated after update on dead_letters referencing old table as old_letters new table as new_letters
  for each statement execute function count_changed_dead_letters();
create trigger dead_letters_deleted after delete on dead_letters referencing old table as old_letters
  for each statement execute function count_deleted_dead_letters();

-- A filter and a status together are one range of one index, and without a status five. Building the indexes keeps letters out until
-- it is done: their deliveries are tried again.
drop index dead_letters_by_fingerprint;
drop index dead_letters_by_symbol;
drop index dead_letters_by_topic;
create index dead_letters_by_fingerprint on dead_letters (fingerprint, status, last_failed_at, id);
create index dead_letters_by_symbol on dead_letters (symbol, status, last_failed_at, id);
create index dead_letters_by_topic on dead_letters (topic, status, last_failed_at, id);
