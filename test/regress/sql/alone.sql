-- First of all: the tests ship by themselves and look at what is queued, so in a
-- server with background workers these keep out of this database.
select current_database() as source \gset
alter database :"source" set courier.workers = off;
select 'courier.workers=off' = any (setconfig) as alone
from pg_db_role_setting where setrole = 0 and setdatabase = (select oid from pg_database where datname = current_database());
