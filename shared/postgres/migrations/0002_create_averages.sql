-- Price points and their moving averages. Writer: compute-ma alone. No foreign key from points to raw responses: events
-- from outside have none.
create table price_points (
  symbol          text        collate "C" not null,
  provider        text        collate "C" not null,
  observed_at     timestamptz not null,
  price           numeric     not null constraint price_points_price_positive check (price > 0),
  raw_response_id uuid        not null,
  correction      integer     not null default 0,
  received_at     timestamptz not null default now(),
  constraint price_points_pk primary key (symbol, provider, observed_at)
);

-- One row per series, locked while its averages are written: transactions on one series serialise here.
create table price_series (
  symbol   text collate "C" not null,
  provider text collate "C" not null,
  constraint price_series_pk primary key (symbol, provider)
);

create table symbol_averages (
  symbol      text        collate "C" not null,
  provider    text        collate "C" not null,
  window_size integer     not null, -- points
  average     numeric     not null,
  points_used integer     not null,
  complete    boolean     not null, -- points_used = window_size
  as_of       timestamptz not null, -- newest point used
  oldest      timestamptz not null, -- oldest point used
  updated_at  timestamptz not null default now(),
  constraint symbol_averages_pk primary key (symbol, provider, window_size)
);
