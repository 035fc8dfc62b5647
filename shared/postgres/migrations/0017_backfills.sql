-- Bars: closes of a provider's history. Writer: poll. New tables: the running version does not notice them.

-- What clients asked for.
create table backfills (
  id          text        collate "C" not null constraint backfills_pk primary key, -- bf_<uuid v7, no dashes>
  symbols     text[]      not null,
  provider    text        not null,
  bars        text        not null, -- their interval: 1m, 1h, 1d …
  start_at    timestamptz not null,
  end_at      timestamptz, -- exclusive; null: follows
  paused      boolean     not null default false,
  created_at  timestamptz not null default now(),
  client      text        not null,
  idempotency_key text,        -- null: none, or it has expired
  fingerprint bytea       not null, -- SHA-256 of the normalised request
  constraint backfills_key unique (client, idempotency_key)
);

-- A series of bars, whichever backfills fill it. compute-ma reads it, too: a point whose raw_response_id is less than since is from
-- before a split.
create table bar_series (
  symbol      text        collate "C" not null,
  provider    text        collate "C" not null, -- the name of the series, such as yfinance-1d
  generation  integer     not null default 0, -- splits that made the history be fetched again
  since       uuid,        -- less than the id of each response of this generation; null in the first
  adjusting   boolean     not null default false, -- the history of this generation is not complete
  last_response_id uuid    not null default '00000000-0000-0000-0000-000000000000', -- ids rise, whatever the clocks of replicas say
  constraint bar_series_pk primary key (symbol, provider)
);

-- How far a backfill has come with a symbol. Everything from next_from to failures is of the present generation.
create table backfill_series (
  backfill_id text        collate "C" not null constraint backfill_series_backfill references backfills (id) on delete cascade,
  symbol      text        collate "C" not null,
  provider    text        collate "C" not null,
  series      text        collate "C" not null, -- the provider of bar_series
  next_from   timestamptz not null, -- where the next answer begins, apart from an overlap
  first_bar   timestamptz,
  last_bar    timestamptz,
  bars        bigint      not null default 0,
  missing     bigint      not null default 0, -- intervals without a bar between others
  recent      jsonb       not null default 'null', -- the bars in the overlap
  marks       jsonb       not null default 'null', -- the splits, and the first daily close; null: not known yet
  check_at    timestamptz, -- when to compare the marks; null: not before the range is covered
  complete    boolean     not null default false, -- covered to the newest final bar, all in the same shares
  done        boolean     not null default false, -- complete to its end
  paused      boolean     not null default false, -- as in backfills
  not_before  timestamptz not null default now(), -- when the provider is asked next
  idle        integer     not null default 0, -- answers in a row without a new bar
  failures    integer     not null default 0, -- in a row
  last_code   text,        -- of the last failure; null after a success
  lease_token uuid,
  lease_expires_at timestamptz,
  constraint backfill_series_pk primary key (backfill_id, symbol)
) with (fillfactor = 50); -- updated in place
create index backfill_series_due on backfill_series (provider, not_before) where not done and not paused;
create index backfill_series_by_series on backfill_series (symbol, series);
