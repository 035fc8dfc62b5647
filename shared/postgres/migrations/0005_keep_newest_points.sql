-- The locked row of a series keeps its newest 50 points, so that averages need no read of the history. Compatible both
-- ways: a compute-ma of the version before ignores the column, and one of this version reads the points themselves where
-- it is null. After a mixed rollout: update price_series set newest = null (see compute-ma's README, "Rebuild").
alter table price_series add column newest bytea; -- format: functions/compute-ma/internal/series; null: not known, read the points

-- Each event updates these rows in place (HOT): room on the page keeps the indexes out of it.
alter table price_series set (fillfactor = 20);
alter table symbol_averages set (fillfactor = 50);
