-- Jobs of a provider that does not answer wait, symbols that a provider does not know are asked for rarely, and a job that gets nothing is
-- paused. Writer: poll. The version before ignores the table and the columns: it asks as often as ever, and never pauses a job.

-- A row per provider that does not answer, until it answers again.
create table provider_backoffs (
  provider   text        collate "C" not null constraint provider_backoffs_pk primary key,
  failures   integer     not null, -- attempts in a row
  code       text        not null, -- of the last problem
  began_at   timestamptz not null,
  failed_at  timestamptz not null, -- when the last attempt failed
  until_at   timestamptz not null, -- then one call may find out whether the provider is back
  probe_expires_at timestamptz     -- of the replica that makes this call; null: none does
);

alter table polling_jobs
  add column failing_since timestamptz, -- since when no symbol has succeeded; null: the last run had one that did
  add column paused_code   text,        -- the problem that paused the job; null: it is active, or its user paused it
  add column resumed_at    timestamptz; -- earlier failures do not count; null: created_at
create index polling_jobs_paused on polling_jobs (id) where paused_code is not null;

alter table polling_series
  add column unknown integer not null default 0, -- answers in a row that the provider does not know the symbol
  add column ask_at  timestamptz;                -- jobs are served the last such answer before this period
