-- Replays of many dead letters: what was asked for, how far it came, what came of it. Writer: dlq-inspector. A new table: the
-- running version does not notice.
create table dead_letter_replays (
  id               uuid        not null constraint dead_letter_replays_pk primary key, -- version 7: sorted by time
  status           text        not null default 'running'
    constraint dead_letter_replays_status check (status in ('running', 'completed', 'cancelled')),
  who              text        not null,
  reason           text        not null,
  filter           jsonb       not null,
  target           text        not null constraint dead_letter_replays_target check (target in ('function', 'topic')),
  dry_run          boolean     not null,
  rate_per_second  integer     not null,
  last_letter      uuid        not null, -- the newest when it was asked for: later letters are no part of it
  cursor           uuid        not null, -- the last letter that was dealt with; they go by id, oldest first
  matched          bigint      not null, -- letters that the filter found when it was asked for
  outcomes         jsonb       not null default '{}', -- letters by what came of them
  created_at       timestamptz not null default now(),
  finished_at      timestamptz,
  lease_token      uuid,       -- of the process that advances it now
  lease_expires_at timestamptz not null default now()
);
create index dead_letter_replays_running on dead_letter_replays (lease_expires_at) where status = 'running';
