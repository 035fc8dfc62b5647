-- Polling jobs and their runs. Writer: poll.
create table polling_jobs (
  id            text        collate "C" not null constraint polling_jobs_pk primary key, -- poll_<uuid v7, no dashes>
  symbols       text[]      not null,
  provider      text        not null,
  interval_s    integer     not null constraint polling_jobs_interval check (interval_s between 5 and 86400), -- seconds
  status        text        not null default 'active' constraint polling_jobs_status check (status in ('active', 'paused')),
  created_at    timestamptz not null default now(),
  next_run_at   timestamptz not null, -- created_at + k * interval, the period that is due next
  last_run_at   timestamptz,
  runs          bigint      not null default 0,
  failures      bigint      not null default 0, -- runs in which at least one symbol failed
  lease_token   uuid,        -- of the tick that runs the job now
  lease_expires_at timestamptz,
  attempted_at  timestamptz  -- last claim: oldest attempt goes first
);
create index polling_jobs_due on polling_jobs (next_run_at) where status = 'active';
create index polling_jobs_by_status on polling_jobs (status, id);

-- One row per job and period: whatever ticks overlap or die, no period is recorded twice.
create table polling_runs (
  job_id       text        collate "C" not null constraint polling_runs_job references polling_jobs (id) on delete cascade,
  scheduled_at timestamptz not null,
  finished_at  timestamptz not null default now(),
  failed       integer     not null, -- symbols that failed
  constraint polling_runs_pk primary key (job_id, scheduled_at)
);

-- The last result of each symbol of a job.
create table polling_results (
  job_id       text        collate "C" not null constraint polling_results_job references polling_jobs (id) on delete cascade,
  symbol       text        collate "C" not null,
  at           timestamptz not null,
  price        numeric, -- null if it failed
  observed_at  timestamptz,
  code         text,    -- of the problem; null if it succeeded
  constraint polling_results_pk primary key (job_id, symbol)
);

-- Idempotency keys of clients, kept for 24 hours.
create table polling_idempotency_keys (
  client      text        not null,
  key         text        not null,
  fingerprint bytea       not null, -- SHA-256 of the normalised request
  job_id      text        collate "C" not null,
  created_at  timestamptz not null default now(),
  constraint polling_idempotency_keys_pk primary key (client, key)
);
create index polling_idempotency_keys_age on polling_idempotency_keys (created_at);
