-- Who has the lease of a replay: a process that is started again after a crash resumes its replay at once. Writer: dlq-inspector. The
-- running version does not write it. If it takes over a lease, the holder before it may take that back: letters in flight are sent once
-- more, which is harmless.
alter table dead_letter_replays add column holder text;
