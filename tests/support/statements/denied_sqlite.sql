select * from sqlite_master
select * from main.sqlite_master
select * from 'secret'
select * from [secret]
select * from `secret`
select load_extension('x')
select writefile('x','y')
select * from pragma_table_info('secret')
select * from pragma_database_list
pragma table_info(secret)
attach 'x' as y
select * from temp.secret
insert into sales.orders select * from secret
replace into secret values (1)
select * from sales.orders not indexed, secret
select * from sales.orders indexed by x, secret
select * from secret not indexed
select ?1 from secret
select @x from secret
select * from dbstat
with secret as (select 1) select * from main.secret
select 'a' "b" from secret
select * from SECRET
with a as materialized (select * from secret) select * from a
select * from my_function(1)
select fts3_tokenizer('x')
insert into sales.orders default values returning (select 1 from secret)
select * from sales.orders where id in secret
select * from sales.orders where id in main.secret
select * from sales.orders where id not in secret
select * from sales.orders where id in my_function(1)
select json_extract(x, (select y from secret)) from sales.orders
insert into sales.orders values (1) on conflict do update set x = (select 1 from secret)
