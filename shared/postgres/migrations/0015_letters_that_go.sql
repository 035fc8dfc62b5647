-- Retention of dead letters: a tick of dlq-inspector removes those that were settled long ago. Writer: dlq-inspector. The running version
-- does not notice: the new column has a default and a trigger, and nothing is removed before the new version runs.

-- When the letter got its status. For letters that exist, that is the time of this migration: they are kept a little longer. The trigger
-- sets it, so that no statement can forget it.
alter table dead_letters add column status_since timestamptz not null default now();
create function date_dead_letter() returns trigger language plpgsql as $$
begin
  new.status_since := now();
  return new;
end $$;
create trigger dead_letters_dated before update of status on dead_letters
  for each row when (old.status <> new.status) execute function date_dead_letter();

-- Oldest first, for the tick. Building the index keeps letters out until it is done: their deliveries are tried again.
create index dead_letters_settled on dead_letters (status_since) where status in ('resolved', 'sent', 'discarded');

-- The audit trail outlives its letter.
alter table dead_letter_audit drop constraint dead_letter_audit_letter;

-- The records of letters that were removed: originals, the copies of them that were refused, and dead letter records. The dead letter
-- topic keeps its records for ever, so any of them may be delivered again; it is then no letter. A topic that was created again begins
-- at offset 0, so the value counts, too.
create table dead_letter_removed_records (
  topic         text    not null,
  partition     integer not null,
  record_offset bigint  not null,
  value_sha256  bytea   not null,
  constraint dead_letter_removed_records_pk primary key (topic, partition, record_offset, value_sha256)
);
