-- A fetch serves every polling job that wants its series, in any claim, tick or replica: this table says who is fetching a
-- series now, and what the last fetch gave. Writer: poll. Its rows are as few as the series that anybody ever polled.
-- A new table: the running version does not notice it. While both versions run, a series may be fetched once by each.
create table polling_series (
  provider     text        collate "C" not null, -- auto is a series of its own
  symbol       text        collate "C" not null,
  lease_token  uuid,        -- of the pass that fetches it now
  lease_expires_at timestamptz,
  attempted_at timestamptz, -- when the last fetch began; null: never. The series asked longest ago goes first
  planned      timestamptz, -- the earliest period that the last fetch was made for
  price        numeric,     -- null if it failed
  observed_at  timestamptz,
  code         text,        -- of the problem; null if it succeeded
  answered_by  text,        -- the provider that gave the price
  constraint polling_series_pk primary key (provider, symbol)
) with (fillfactor = 50); -- updated in place

-- Which provider answered a job of provider auto. The version before leaves it alone.
alter table polling_results add column provider text;

-- Jobs are claimed for one provider at a time. The version before still finds due jobs, by reading the table.
create index polling_jobs_due_by_provider on polling_jobs (provider, next_run_at) where status = 'active';
drop index polling_jobs_due;
alter table polling_jobs set (fillfactor = 70); -- a claim is an update in place
alter table polling_results set (fillfactor = 70);

-- Retention of runs reads the oldest.
create index polling_runs_by_age on polling_runs (finished_at);

-- A key goes with its job, so that the request can be made again. The version before writes the key first and the job second,
-- and so does this one: the reference is checked at the end of the transaction.
delete from polling_idempotency_keys k where not exists (select from polling_jobs j where j.id = k.job_id);
create index polling_idempotency_keys_by_job on polling_idempotency_keys (job_id);
alter table polling_idempotency_keys add constraint polling_idempotency_keys_job
  foreign key (job_id) references polling_jobs (id) on delete cascade deferrable initially deferred;
