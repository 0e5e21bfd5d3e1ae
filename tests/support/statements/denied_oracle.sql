select * from sales.orders@remote
select utl_http.request('x') from dual
select dbms_xmlgen.getxml('select * from secret') from dual
select q'[']' from secret -- '
select xmltype('x') from dual
select httpuritype('x').getclob() from dual
select * from table(my_function(1))
select * from user_tables
select * from all_tables
select * from sys.dba_users
select s.nextval from dual
with function f return number is begin return 1; end; select f from dual
select * from "secret"
select * from v$session
insert all into secret values (1) into sales.orders values (2) select 1 from dual
select * from sales.orders as of timestamp sysdate, secret
select cursor(select * from secret) from dual
select * from the (select x from secret)
select * from sales.orders partition (p), secret
select sys_context('a','b') from dual
select extract(xmltype('x'), '/y') from dual
select * from dual connect by exists (select 1 from secret)
select my_package.my_function from dual
select hr.my_package.my_function from dual
select s.currval from sales.orders
select o.id, s.nextval from sales.orders o
