-- Calls of providers that have a limit of a day, counted where a Redis that loses its memory cannot lose them. Writer:
-- shared/ratelimit/budget. One row per provider and day, so nothing needs to clean up. A new table: the running version
-- does not notice.
create table provider_day_counts (
  provider text    collate "C" not null,
  day      date    not null, -- UTC
  calls    integer not null constraint provider_day_counts_calls_positive check (calls > 0),
  constraint provider_day_counts_pk primary key (provider, day)
);
