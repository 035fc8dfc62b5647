-- A series' averages move into its row, which every event updates anyway: one update in place of four. symbol_averages is a view
-- with the columns that the table had. A compute-ma of the version before cannot write a view: its events fail and come again,
-- until the new version has taken over.
alter table price_series
  add column windows integer[], -- null before the first point; averages and oldest go with it, element by element
  add column averages numeric[],
  add column oldest timestamptz[], -- the oldest point in each window
  add column points integer, -- how many of the newest points there are, at most as many as the largest window has
  add column as_of timestamptz, -- the newest point
  add column updated_at timestamptz;

update price_series s
set windows = a.windows, averages = a.averages, oldest = a.oldest, points = a.points, as_of = a.as_of, updated_at = a.updated_at
from (
  select symbol, provider, as_of, max(points_used) as points, max(updated_at) as updated_at,
    array_agg(window_size order by window_size) as windows, array_agg(average order by window_size) as averages,
    array_agg(symbol_averages.oldest order by window_size) as oldest
  from symbol_averages
  where as_of = (select max(n.as_of) from symbol_averages n where n.symbol = symbol_averages.symbol and n.provider = symbol_averages.provider)
  group by symbol, provider, as_of) a -- a window that is configured no more was left behind
where s.symbol = a.symbol and s.provider = a.provider;

drop table symbol_averages;

create view symbol_averages as
select s.symbol, s.provider, a.window_size, a.average, least(a.window_size, s.points) as points_used,
  s.points >= a.window_size as complete, s.as_of, a.oldest, s.updated_at
from price_series s
cross join lateral unnest(s.windows, s.averages, s.oldest) as a (window_size, average, oldest);
