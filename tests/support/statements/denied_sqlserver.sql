select * from sales.orders exec xp_cmdshell
select * from sales.orders shutdown
select 1 shutdown
select 1 exec('x')
select 1 drop table secret
select 1 delete from secret
select * from sales.orders delete secret
select * from sales.orders update secret set x = 1
select * from openrowset('x','y','z')
select * from openquery(x, 'select 1')
select * from opendatasource('x','y').a.b.c
select * from srv.db.sales.orders
select * from db..orders
select * from db.sales.orders
select * from sys.objects
select * from sysobjects
select * from #tmp
select * from [secret]
select * from [sec]]ret]
select @@version
select next value for s
select * from sales.orders for xml auto
select * into sales.x from sales.orders
delete o from secret as o
update o set x = 1 from secret as o
update sales.x set y = 1 from secret
update secret set x = 1 from sales.orders as o
update secret set x = 1 from sales.orders as Secret
delete top (1) from secret
insert into sales.orders exec secret
insert sales.orders select * from secret
insert into sales.orders output inserted.id into secret values (1)
merge secret as t using sales.orders as s on 1=1 when matched then delete;
select * from sales.orders option (querytraceon 1)
waitfor delay '0:0:1'
select 1 if 1=1 drop table secret
select 1 from sales.orders union select 1 from [hr].[secret]
with secret as (select 1 x) select * from dbo.secret
select top (select 1 from secret) * from sales.orders
select * from sales.orders cross apply (select * from secret) x
select * from sales.orders cross apply my_function(1) x
select * from sales.orders with (index(secret)), secret
select * from changetable(changes secret, 1) x
select (select * from secret for json path)
select * from sales.orders where contains(x, 'y')
select * from secret pivot (sum(a) for b in ([c])) p
