select * from secret
select * from "secret"
select * from public.secret
select * from sales.orders, secret
select * from sales.orders join secret on true
select * from (select * from secret) x
select (select max(x) from secret)
select 1 where exists (select 1 from secret)
select 1 from sales.orders where id in (select id from secret)
select 1 from sales.orders order by (select x from secret)
select 1 from sales.orders group by (select x from secret)
select 1 from sales.orders limit (select x from secret)
select 1 union select x from secret
select 1 from sales.orders union all (select x from secret)
with secret as (select * from secret) select * from secret
with a as (select * from secret) select * from a
with secret as (select 1) select * from public.secret
(with secret as (select 1 x) select * from secret) union select x from secret
select * from (with secret as (select 1 x) select * from secret) a, secret
with a as (select * from b), b as (select 1) select * from a
with a as (with secret as (select 1) select 1) select * from secret
with secret as (select 1 x) insert into secret select * from secret
with secret as (select 1 x) delete from secret
with secret as (select 1 x) update secret set x = 1
insert into secret values (1)
insert into sales.orders select * from secret
insert into sales.orders values ((select x from secret))
update secret set x = 1
update sales.orders set x = (select x from secret)
update sales.orders set x = 1 where id in (select 1 from secret)
delete from secret
delete from sales.orders where id in (select id from secret)
merge into secret using sales.orders on true when matched then delete
merge into sales.orders using secret on true when matched then delete
table secret
select * from (table secret) x
select * from sales.orders; select * from secret
select * from sales.orders;;select 1
select * from information_schema.tables
select * from sales.orders where f(1) = 1
select my_function(id) from sales.orders
select hr.lower(name) from sales.orders
select sum (x), "lo_import"('x') from sales.orders
select * from my_function(1)
select 1 /* /* */ from secret -- */ */
create table sales.x (a int)
drop table sales.orders
truncate sales.orders
grant select on sales.orders to x
set search_path = x
explain select * from secret
select * into sales.new from sales.orders
call x()
execute x
values ((select 1 from secret))
select * from sales . orders . x
select * from a.sales.orders
begin
commit
select 1 as x from sales.orders for update of secret
select  * from secret
select * from sécret
select * fromsecret
select {fn user()}
select case when exists(select 1 from secret) then 1 end
select * from sales.orders o where (o.id, 1) in (select id, 1 from secret)
select sum(id) over (order by (select 1 from secret)) from sales.orders
select sum(id) filter (where exists (select 1 from secret)) from sales.orders
select * from sales.orders natural join secret
select * from sales.orders o left join (secret s cross join sales.lines l) on true
select * from ((secret))
select * from sales.orders, lateral (select * from secret) x
select * from sales.orders cross join lateral (select * from secret) x
