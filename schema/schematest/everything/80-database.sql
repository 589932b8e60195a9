-- Properties of the database and its roles. cfdatabase stands for its name.
COMMENT ON DATABASE cfdatabase IS 'all of it; ''quoted''';
ALTER DATABASE cfdatabase SET search_path = kind, "Odd ""name""; -- x", public;
ALTER DATABASE cfdatabase SET work_mem = '7MB';
ALTER DATABASE cfdatabase SET app.tenant = 'it''s \ one';
ALTER ROLE cfrole_reader IN DATABASE cfdatabase SET statement_timeout = '90s';
ALTER ROLE cfrole_app SET default_transaction_isolation = 'repeatable read';
REVOKE TEMPORARY ON DATABASE cfdatabase FROM PUBLIC;
GRANT CREATE, CONNECT ON DATABASE cfdatabase TO cfrole_app;
