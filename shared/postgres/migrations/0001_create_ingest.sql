-- What providers answered, and what of it Kafka has not acknowledged yet. Writer: shared/ingest.
create table raw_responses (
  id          uuid        not null constraint raw_responses_pk primary key, -- version 7: sorted by time
  provider    text        not null,
  symbol      text        not null,
  status      integer     not null, -- HTTP status of the provider's answer
  body        bytea,                -- null once retention has dropped it
  received_at timestamptz not null
);

-- One row per event that is stored but not acknowledged by the broker; gone once it is.
create table outbox (
  id           bigint      not null generated always as identity constraint outbox_pk primary key,
  topic        text        not null,
  key          bytea       not null,
  value        bytea       not null,
  headers      jsonb       not null, -- header name -> text
  created_at   timestamptz not null default now(),
  attempts     integer     not null default 0,
  next_attempt_at timestamptz not null default now()
);
create index outbox_due on outbox (next_attempt_at, id);
