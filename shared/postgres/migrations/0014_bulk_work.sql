-- Bulk work on dead letters by ids, discards, transforms, and plans that keep each verdict. Writer: dlq-inspector. The running version
-- can neither select by ids, discard nor transform: it would replay other letters, or other values, than were asked for. So a lease on
-- such work is given only to versions that count their claims; the running version finds no work instead.
alter table dead_letter_replays
  add column action    text    not null default 'replay' constraint dead_letter_replays_action check (action in ('replay', 'discard')),
  add column transform text    not null default '',   -- a jq program; empty: values stay
  add column samples   jsonb   not null default '[]', -- of a plan: some letters before and after
  add column claims    integer not null default 0;    -- how often the work was leased

create function keep_dead_letter_work() returns trigger language plpgsql as 'begin return null; end';

create trigger dead_letter_replays_claimed before update on dead_letter_replays for each row
  when ((new.action <> 'replay' or new.transform <> '' or new.filter ? 'ids')
    and new.lease_token is not null and new.lease_token is distinct from old.lease_token and new.claims = old.claims)
  execute function keep_dead_letter_work();

-- What a plan says of each letter, and why a replay or discard skipped one. A tick deletes them after some days.
create table dead_letter_verdicts (
  replay_id uuid not null, -- version 7: sorted by time
  letter_id uuid not null,
  outcome   text not null,
  code      text not null,
  reason    text not null,
  constraint dead_letter_verdicts_pk primary key (replay_id, letter_id)
);
