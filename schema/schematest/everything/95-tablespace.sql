SET allow_in_place_tablespaces = on;
CREATE TABLESPACE cfspace_1 LOCATION '';
CREATE TABLE kind.elsewhere (id integer PRIMARY KEY USING INDEX TABLESPACE cfspace_1, v text) TABLESPACE cfspace_1;
INSERT INTO kind.elsewhere SELECT n, 'v' || n FROM generate_series(1, 100) n;
CREATE TABLE kind.parts_elsewhere (id integer) PARTITION BY RANGE (id) TABLESPACE cfspace_1;
