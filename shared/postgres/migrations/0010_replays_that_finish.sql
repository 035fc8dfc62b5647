-- Replays that survive kills and dropped connections. Writer: dlq-inspector. All columns are new and have defaults: the running
-- version does not notice; a replay that it has begun is finished by whichever version takes it over.

-- A replay of many letters marks each letter that it takes, in the statement that moves its cursor, and clears the mark in the
-- statement that counts the letter's outcome: what a killed process had under way is found by its mark.
alter table dead_letters
  add column replay_id uuid,                             -- the replay of many that still owes this letter an outcome
  add column replay_troubles integer not null default 0; -- its attempts at this letter that ended without a verdict
create index dead_letters_owed on dead_letters (replay_id, replay_troubles, id) where replay_id is not null;

alter table dead_letter_audit
  add column change_id uuid,  -- a change that is tried again after a lost connection is made once
  add column value     bytea; -- what an edited replay sent

alter table dead_letter_replays
  add column force         boolean not null default false,
  add column cancelled_by  text,
  add column stop_reason   text,
  add column trouble       text,                          -- why it rests; null: it does not
  add column reasons       jsonb   not null default '{}', -- refused and skipped letters by code
  add column recent        text    not null default '',   -- the last 200 verdicts, oldest first: r refused, a accepted
  -- Copies to topics go by their records' places, not by id.
  add column cursor_topic     text,
  add column cursor_partition integer,
  add column cursor_offset    bigint,
  drop constraint dead_letter_replays_status,
  add constraint dead_letter_replays_status check (status in ('running', 'completed', 'cancelled', 'stopped'));

create table dead_letter_replay_keys (
  operator    text        not null,
  key         text        not null,
  fingerprint bytea       not null, -- of the request
  replay_id   uuid        not null,
  created_at  timestamptz not null default now(),
  constraint dead_letter_replay_keys_pk primary key (operator, key)
);
create index dead_letter_replay_keys_created_at on dead_letter_replay_keys (created_at);
