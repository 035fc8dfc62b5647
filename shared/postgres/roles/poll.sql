-- poll stores quotes and bars with their events, keeps jobs and backfills, and sweeps the outbox. It never writes a point.
grant select, insert, update (body) on raw_responses to marketdata_poll; -- retention drops bodies
grant select, insert, update, delete on outbox to marketdata_poll;
grant select, insert, update on provider_day_counts to marketdata_poll;
grant select, insert, update, delete on polling_jobs, polling_runs, polling_idempotency_keys to marketdata_poll;
grant select, insert, update on polling_results, polling_series to marketdata_poll;
grant select, insert, update, delete on provider_backoffs to marketdata_poll;
grant select, insert, update, delete on backfills to marketdata_poll;
grant select, insert, update on bar_series, backfill_series to marketdata_poll;
