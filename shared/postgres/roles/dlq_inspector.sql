-- dlq-inspector keeps dead letters. The audit trail only grows. Triggers of dead_letters write the counts with its privileges.
grant select, insert, update, delete on dead_letters to marketdata_dlq_inspector;
grant select, insert, update on dead_letter_failures to marketdata_dlq_inspector;
grant select, insert on dead_letter_audit to marketdata_dlq_inspector;
grant select, insert, update, delete on dead_letter_counts, dead_letter_hours to marketdata_dlq_inspector;
grant select, insert, update on dead_letter_texts to marketdata_dlq_inspector;
grant select, insert, update, delete on dead_letters_to_index to marketdata_dlq_inspector;
grant select, insert, update on dead_letter_replays to marketdata_dlq_inspector;
grant select, insert, update, delete on dead_letter_replay_keys to marketdata_dlq_inspector;
grant select, insert, delete on dead_letter_verdicts to marketdata_dlq_inspector;
grant select, insert on dead_letter_removed_records to marketdata_dlq_inspector;
