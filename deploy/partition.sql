-- Divides price_points into 16 partitions by hash of the symbol. Nothing else has to change: see SCALING.md. It copies the points under
-- an exclusive lock. Until it is done, events are answered 503 and come again.
begin;
alter table price_points rename to price_points_whole;
alter table price_points_whole rename constraint price_points_pk to price_points_whole_pk;
create table price_points (
  like price_points_whole including defaults including constraints including storage,
  constraint price_points_pk primary key (symbol, provider, observed_at)
) partition by hash (symbol);
do $$
begin
  for i in 0..15 loop
    execute format('create table price_points_%s partition of price_points for values with (modulus 16, remainder %s)', i, i);
  end loop;
end $$;
do $$ -- who may use the table
declare may record;
begin
  for may in
    select privilege_type as what, case grantee when 0 then 'public' else grantee::regrole::text end as who
    from pg_class, aclexplode(relacl)
    where oid = 'price_points_whole'::regclass and grantee <> relowner
  loop
    execute format('grant %s on price_points to %s', may.what, may.who);
  end loop;
end $$;
insert into price_points select * from price_points_whole;
drop table price_points_whole;
commit;
