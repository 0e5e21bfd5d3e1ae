select * from sales.orders /*! , secret */
select 1 /*!50000 from secret */
select 1 /*M! from secret */
select load_file('/etc/passwd')
select sleep (10)
select * from sales.orders into outfile '/tmp/x'
select 1 into @x
select @x := 1
select @@version
select '\' from secret -- '
select "\" from secret -- "
select 1 --1 from secret
select 1 # x
select * from `secret`
select * from sales.`orders`.x
table secret
handler secret open
do sleep(1)
select 1.e(secret) from secret
select 1e1from secret
delete secret from sales.orders as o join secret
delete o, secret from sales.orders as o join secret
delete from o, secret using sales.orders as o join secret
update sales.orders o, secret s set s.x = 1
insert into sales.orders table secret
insert into sales.orders set x = (select 1 from secret)
insert into sales.orders values (1) on duplicate key update x = (select 1 from secret)
replace into secret values (1)
select * from "secret"
select * from secret partition (p0)
select _utf8'x' from secret
select * from sales.orders procedure analyse()
select * from mysql.user
select * from sys.x
load data infile 'x' into table sales.orders
select * from sales.orders lock in share mode, secret
select * from sales.orders use index (x), secret
select benchmark(1,1)
select get_lock('a',1)
select \N from secret
select * from json_table('[]', '$' columns (a int path '$')) t
select * from dual, secret
select * from (sales.orders, secret)
select * from sales.orders join (secret) on 1
select * from { oj secret left join x on 1 }
select next value for s
select hr.f(1)
select * from sales.orders where match (a) against ((select x from secret))
with secret as (select 1) select * from SECRET
