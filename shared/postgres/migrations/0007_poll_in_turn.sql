-- When a symbol of a job was last asked for: those whose turn is longest ago go first, so that a budget smaller than a job
-- serves all its symbols in turn. Compatible both ways: the version before leaves the column alone.
alter table polling_results add column attempted_at timestamptz; -- null: never

-- Bodies that are kept, by age: retention reads no others. The version before does not notice.
create index raw_responses_with_body on raw_responses (received_at) where body is not null;
