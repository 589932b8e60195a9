CREATE SCHEMA app;
CREATE TABLE app.fired (what text);
CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
	INSERT INTO app.fired VALUES (TG_TABLE_NAME || ' ' || TG_NAME);
	RETURN coalesce(NEW, OLD);
END$$;

-- Triggers and rules in each state.
CREATE TABLE app.author (id int PRIMARY KEY, name text UNIQUE DEFERRABLE);
CREATE TRIGGER t_o BEFORE INSERT OR UPDATE OR DELETE ON app.author FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_d AFTER INSERT ON app.author FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_a AFTER INSERT ON app.author FOR EACH STATEMENT EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_r AFTER INSERT ON app.author FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE TABLE app.emptied (id int);
CREATE TRIGGER t_truncate AFTER TRUNCATE ON app.emptied FOR EACH STATEMENT EXECUTE FUNCTION app.fire();
CREATE CONSTRAINT TRIGGER t_deferred AFTER INSERT ON app.author DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION app.fire();
CREATE CONSTRAINT TRIGGER t_deferred_a AFTER INSERT ON app.author DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.fire();
ALTER TABLE app.author DISABLE TRIGGER t_d, ENABLE ALWAYS TRIGGER t_a, ENABLE REPLICA TRIGGER t_r, ENABLE ALWAYS TRIGGER t_deferred_a;
COMMENT ON TRIGGER t_o ON app.author IS 'it''s kept';
CREATE TABLE app.ruled (id int);
CREATE RULE r_o AS ON INSERT TO app.ruled DO ALSO INSERT INTO app.fired VALUES ('r_o');
CREATE RULE r_d AS ON INSERT TO app.ruled DO ALSO INSERT INTO app.fired VALUES ('r_d');
CREATE RULE r_a AS ON INSERT TO app.ruled DO ALSO INSERT INTO app.fired VALUES ('r_a');
CREATE RULE r_r AS ON INSERT TO app.ruled DO ALSO INSERT INTO app.fired VALUES ('r_r');
ALTER TABLE app.ruled DISABLE RULE r_d, ENABLE ALWAYS RULE r_a, ENABLE REPLICA RULE r_r;
CREATE VIEW app.seen AS SELECT id FROM app.ruled;
CREATE RULE r_view AS ON INSERT TO app.seen DO INSTEAD INSERT INTO app.ruled VALUES (NEW.id);

-- Foreign keys of each kind.
CREATE SCHEMA "we ird";
CREATE TABLE "we ird"."bo""ok" (id int PRIMARY KEY, author int, second int, third int, sequel int);
ALTER TABLE "we ird"."bo""ok"
	ADD CONSTRAINT "fi""rst" FOREIGN KEY (author) REFERENCES app.author ON UPDATE CASCADE ON DELETE CASCADE,
	ADD CONSTRAINT second FOREIGN KEY (second) REFERENCES app.author DEFERRABLE INITIALLY DEFERRED,
	ADD CONSTRAINT third FOREIGN KEY (third) REFERENCES app.author MATCH FULL ON DELETE SET NULL DEFERRABLE NOT VALID,
	ADD CONSTRAINT sequel FOREIGN KEY (sequel) REFERENCES "we ird"."bo""ok";
COMMENT ON CONSTRAINT "fi""rst" ON "we ird"."bo""ok" IS E'back\\slash and ''quote''';
COMMENT ON CONSTRAINT third ON "we ird"."bo""ok" IS 'not valid';
CREATE TABLE app.loan (id int, region int, author int, earlier int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE app.loan_1 PARTITION OF app.loan FOR VALUES IN (1);
CREATE TABLE app.loan_2 PARTITION OF app.loan FOR VALUES IN (2) PARTITION BY RANGE (id);
CREATE TABLE app.loan_2_low PARTITION OF app.loan_2 FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE app.loan_2_high (region int NOT NULL, id int NOT NULL, author int, earlier int, CONSTRAINT other_name FOREIGN KEY (author) REFERENCES app.author ON DELETE CASCADE);
ALTER TABLE app.loan_2 ATTACH PARTITION app.loan_2_high FOR VALUES FROM (100) TO (MAXVALUE);
ALTER TABLE app.loan ADD CONSTRAINT loan_author FOREIGN KEY (author) REFERENCES app.author ON DELETE CASCADE,
	ADD CONSTRAINT loan_earlier FOREIGN KEY (earlier, region) REFERENCES app.loan (id, region) DEFERRABLE;
COMMENT ON CONSTRAINT loan_author ON app.loan IS 'of the whole tree';
CREATE TABLE app.fee (id int PRIMARY KEY, loan int, region int, CONSTRAINT fee_loan FOREIGN KEY (loan, region) REFERENCES app.loan ON DELETE CASCADE);

-- Triggers of partitioned tables, whose partitions have their own states.
CREATE TRIGGER t_tree AFTER INSERT ON app.loan FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_tree_a BEFORE INSERT ON app.loan FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE CONSTRAINT TRIGGER t_tree_deferred AFTER INSERT ON app.loan DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_root AFTER INSERT ON app.loan FOR EACH STATEMENT EXECUTE FUNCTION app.fire();
CREATE TRIGGER t_leaf AFTER INSERT ON app.loan_1 FOR EACH ROW EXECUTE FUNCTION app.fire();
ALTER TABLE app.loan_1 DISABLE TRIGGER t_tree;
ALTER TABLE app.loan_2_low ENABLE ALWAYS TRIGGER t_tree;
ALTER TABLE app.loan ENABLE ALWAYS TRIGGER t_tree_a;
ALTER TABLE ONLY app.loan DISABLE TRIGGER t_tree_deferred;

-- A tree that is in a key on one side alone, and one that has nothing but a trigger.
CREATE TABLE app.archive (id int, author int REFERENCES app.author) PARTITION BY LIST (id);
CREATE TABLE app.archive_1 PARTITION OF app.archive DEFAULT;
CREATE TABLE app.log (id int) PARTITION BY LIST (id);
CREATE TABLE app.log_1 PARTITION OF app.log DEFAULT;
CREATE TRIGGER t_log AFTER INSERT ON app.log FOR EACH ROW EXECUTE FUNCTION app.fire();

-- Identity columns, row security.
CREATE TABLE app.numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other int GENERATED BY DEFAULT AS IDENTITY, "Third" int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE app.secret (id int);
ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON app.secret USING (false);
CREATE TABLE app.half_secret (id int);
ALTER TABLE app.half_secret FORCE ROW LEVEL SECURITY;

-- Check constraints that depend on more than the row, by inheritance and of a domain too.
CREATE FUNCTION app.latest() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT pg_catalog.now()';
CREATE TABLE app.dated (id int, at timestamptz, CONSTRAINT "Not later" CHECK (at <= app.latest()), CONSTRAINT only_here CHECK (at IS NOT NULL) NO INHERIT, CONSTRAINT of_row CHECK (id <> 13));
COMMENT ON CONSTRAINT "Not later" ON app.dated IS 'a clock';
ALTER TABLE app.dated ADD CONSTRAINT loose_check CHECK (at > now() - interval '1 year') NO INHERIT NOT VALID;
CREATE TABLE app.dated_child (more int, CONSTRAINT "Not later" CHECK (at <= app.latest())) INHERITS (app.dated);
CREATE TABLE app.dated_plain_child () INHERITS (app.dated);
CREATE DOMAIN app.past AS timestamptz CONSTRAINT not_later_either CHECK (VALUE <= now());
COMMENT ON CONSTRAINT not_later_either ON DOMAIN app.past IS 'of a domain';
CREATE TABLE app.event (id int, at app.past);

-- Rows that hold to all of this.
INSERT INTO app.author VALUES (1, 'a'), (2, 'b');
INSERT INTO "we ird"."bo""ok" VALUES (1, 1, 1, 1, NULL), (2, 2, NULL, NULL, 1);
INSERT INTO app.loan VALUES (1, 1, 1, NULL), (2, 2, 2, NULL), (200, 2, 2, 2);
INSERT INTO app.fee VALUES (1, 1, 1), (2, 200, 2);
INSERT INTO app.numbered DEFAULT VALUES;
