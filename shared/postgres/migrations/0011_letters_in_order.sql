-- Dead letters: a refused copy is a failure of the letter that was sent, and lists are read in their order. Writer: dlq-inspector.
-- The running version does not know the new columns and leaves them null. It lists by id, which the new indexes serve less well
-- for one fingerprint, symbol or topic; it is right all the same. Building the indexes keeps letters out until it is done:
-- their deliveries are tried again.

-- The place of the refused record where it is not the letter's own: a copy that a replay sent.
alter table dead_letter_failures add column topic text, add column partition integer, add column record_offset bigint;
create index dead_letter_failures_copy on dead_letter_failures (topic, partition, record_offset) where record_offset is not null;
create index dead_letters_sent on dead_letters (value_sha256) where status in ('sent', 'replaying') and exact;

-- Newest failure first: with any one of the filters, since and until, a page is one range of one index.
create index dead_letters_by_time on dead_letters (last_failed_at, id);
create index dead_letters_by_status_time on dead_letters (status, last_failed_at, id);
drop index dead_letters_by_fingerprint;
drop index dead_letters_by_symbol;
drop index dead_letters_by_topic;
create index dead_letters_by_fingerprint on dead_letters (fingerprint, last_failed_at, id);
create index dead_letters_by_symbol on dead_letters (symbol, last_failed_at, id);
create index dead_letters_by_topic on dead_letters (topic, last_failed_at, id);
