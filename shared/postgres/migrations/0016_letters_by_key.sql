-- Letters with the same key. A key may be longer than an index takes, so it is found by its digest. The running version does not notice.
create index dead_letters_by_key on dead_letters (sha256(key), last_failed_at, id) where key is not null;
