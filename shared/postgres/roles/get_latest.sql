-- get-latest stores quotes with their events, and reads histories.
grant insert on raw_responses to marketdata_get_latest;
grant insert, delete, select (id, headers) on outbox to marketdata_get_latest; -- what it has just inserted is matched to its caller
grant select, insert, update on provider_day_counts to marketdata_get_latest;
grant select on price_points to marketdata_get_latest;
