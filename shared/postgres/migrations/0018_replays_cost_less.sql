-- A replay changes each letter twice, and each change writes to every index and calls the trigger that counts.

-- The plan of a trigger's statement is kept for the session. If the first change in a session was that of a single letter, a join of the
-- letters before and after compared all pairs of them from then on: a bulk replay spent an eighth of its database time there.
alter function count_changed_dead_letters() set enable_nestloop = off;

-- Lists of all letters read one range of dead_letters_by_status_time for each status. The running version sorts all letters for them.
drop index dead_letters_by_time;
