-- Dead letters, what happened to them, and who did it. Writer: dlq-inspector.
create table dead_letters (
  id              uuid        not null constraint dead_letters_pk primary key, -- version 7: sorted by time
  status          text        not null default 'open'
    constraint dead_letters_status check (status in ('open', 'replaying', 'resolved', 'sent', 'discarded')),
  -- The original record's place; null where nobody knows it.
  topic           text,
  partition       integer,
  record_offset   bigint,
  recorded_at     timestamptz, -- the original record's timestamp
  exact           boolean     not null, -- key, value and headers are the original record's own
  event_source    text        not null default '',
  event_id        text        not null default '',
  value_sha256    bytea       not null,
  key             bytea,
  value           bytea,       -- null: the record has a null value
  headers         jsonb       not null, -- [{"name", "value": base64}] in order
  attributes      jsonb       not null, -- CloudEvent attributes as they were delivered, name -> text
  content_type    text        not null default '',
  -- Of the latest failure; the first and all others are in dead_letter_failures.
  code            text        not null,
  reason          text        not null,
  fingerprint     text        not null,
  symbol          text,
  first_failed_at timestamptz not null,
  last_failed_at  timestamptz not null,
  failure_count   integer     not null default 0,
  replay_count    integer     not null default 0,
  correction      integer     not null default 0, -- greatest that the event or its replays carried
  replay_token    uuid,        -- of the replay under way
  replay_expires_at timestamptz
);
-- A letter's identity. The same letter again is one more failure.
create unique index dead_letters_by_place on dead_letters (topic, partition, record_offset, value_sha256) where record_offset is not null;
create unique index dead_letters_by_event on dead_letters (event_source, event_id, value_sha256) where record_offset is null;
create index dead_letters_by_status on dead_letters (status, id);
create index dead_letters_by_fingerprint on dead_letters (fingerprint, id);
create index dead_letters_by_symbol on dead_letters (symbol, id);
create index dead_letters_by_topic on dead_letters (topic, id);
create index dead_letters_replaying on dead_letters (replay_expires_at) where status = 'replaying';

create table dead_letter_failures (
  id            bigint      not null generated always as identity constraint dead_letter_failures_pk primary key,
  letter_id     uuid        not null constraint dead_letter_failures_letter references dead_letters (id) on delete cascade,
  -- The dead letter record: its redelivery is nothing new. Null for a replay that was refused.
  dlq_topic     text,
  dlq_partition integer,
  dlq_offset    bigint,
  code          text        not null,
  reason        text        not null,
  function      text        not null default '',
  failed_at     timestamptz not null,
  constraint dead_letter_failures_record unique (dlq_topic, dlq_partition, dlq_offset)
);
create index dead_letter_failures_letter_id on dead_letter_failures (letter_id, id);

create table dead_letter_audit (
  id        bigint      not null generated always as identity constraint dead_letter_audit_pk primary key,
  letter_id uuid        not null constraint dead_letter_audit_letter references dead_letters (id) on delete cascade,
  at        timestamptz not null default now(),
  who       text        not null,
  action    text        not null,
  reason    text        not null default '',
  before    jsonb       not null,
  after     jsonb       not null
);
create index dead_letter_audit_letter_id on dead_letter_audit (letter_id, id);
