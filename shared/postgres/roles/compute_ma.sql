-- compute-ma keeps points and averages. It corrects points, but never deletes one.
grant select, insert, update on price_points to marketdata_compute_ma;
grant select, insert, update, delete on price_series to marketdata_compute_ma;
grant select on symbol_averages, bar_series to marketdata_compute_ma;
