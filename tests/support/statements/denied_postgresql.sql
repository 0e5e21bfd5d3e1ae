select pg_read_file('x')
select ('x'::text).pg_read_file
select g.lo_create from generate_series(1,2) as g
select g.my_function from generate_series(1,2) as g
select g.my_function from unnest(array[1]) g
select lo_import('/etc/passwd')
select * from dblink('x','y') as t(a int)
select query_to_xml('select * from secret',true,true,'')
select * from only secret
select * from only (secret)
select * from secret*
select * from rows from (generate_series(1,2), pg_ls_dir('.')) x
select set_config('search_path','x',false)
select current_setting('x')
select nextval('x')
select 'secret'::regclass
select 'x'::mytype
select cast('x' as hr.mytype)
select U&"secret" from sales.orders
select * from U&"\0073ecret"
select $$x$$ from sales.orders
select $a$ ' $a$ from secret -- '
select E'\' from secret --'
select * from pg_catalog.pg_authid
select * from pg_authid
select pg_catalog.pg_read_file('x')
with lo_import(x) as (select 1) select lo_import('x') from lo_import
with my_function(x) as (select 1) select my_function('x') from my_function
with x as (insert into secret values (1) returning *) select * from x
insert into sales.orders values (1) on conflict (id) do update set x = (select 1 from secret)
insert into sales.orders values (1) returning (select x from secret)
update sales.orders set x = 1 from secret where true
delete from sales.orders using secret
select * from xmltable('x' passing y columns z text)
select 1 operator(hr.+) 2
select 1 from sales.orders tablesample my_function(10)
copy sales.orders to program 'x'
do $$begin end$$
select * from json_populate_record(null::secret, '{}')
select row(secret.*) from secret
select * from aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
select array(select x from secret)
select array(table secret)
select 1 in (table secret)
select exists (table secret)
select * from sales.orders where x = any (select x from secret)
select * from sales.orders where x = any (table secret)
select ts_stat('select 1')
select * from sales.orders cross join secret s (a, b)
select * from sales.orders window w as (order by (select 1 from secret))
select $1 from sales.orders
select grouping((select 1 from secret)) from sales.orders
listen x
notify x
lock table sales.orders
show search_path
fetch all from x
declare x cursor for select * from secret
prepare x as select * from secret
select * from sales.orders order by x using operator(hr.<)
select interval '1' my_function(2)
with recursive a as (select 1 union select * from b), b as (select 1) select * from a
with a as (select 1) search depth first by x set secret select * from a
