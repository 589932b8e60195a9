-- Names that have to be quoted, of every sort.
CREATE SCHEMA "Odd ""name""; -- x";
CREATE TABLE "Odd ""name""; -- x"."T;1" ("c""1" integer PRIMARY KEY, "select" text, at timestamp(3) DEFAULT '2024-01-01');
CREATE TABLE "Odd ""name""; -- x"."two
lines" ("a
b" integer, " " text, CONSTRAINT "con
straint" UNIQUE ("a
b"));
COMMENT ON COLUMN "Odd ""name""; -- x"."two
lines"."a
b" IS 'a line
break';
CREATE TABLE "Odd ""name""; -- x"."таблица" ("имя" text, "名前" integer DEFAULT 1, "😀" boolean, "\back" text, "o'clock" text, "$1" text, "%s" text);
CREATE INDEX "индекс 😀" ON "Odd ""name""; -- x"."таблица" ("名前");
CREATE TABLE "Odd ""name""; -- x"."select" ("table" integer, "order" integer, "user" text, "end" text, "all" text, "analyse" text);
CREATE TABLE "Odd ""name""; -- x"."$$" ("$tag$" text DEFAULT '$$ $tag$');
CREATE TABLE "Odd ""name""; -- x".a23456789012345678901234567890123456789012345678901234567890123 (b23456789012345678901234567890123456789012345678901234567890123 integer);
CREATE VIEW "Odd ""name""; -- x"."view" AS SELECT "имя", "😀" AS "CamelCase" FROM "Odd ""name""; -- x"."таблица";
CREATE SEQUENCE "Odd ""name""; -- x"."Seq;1";
CREATE TYPE "Odd ""name""; -- x"."Type" AS ENUM ('a''b', 'c"d', E'e\nf', 'g\h');
CREATE TABLE "Odd ""name""; -- x".uses ("Type" "Odd ""name""; -- x"."Type", many "Odd ""name""; -- x"."Type"[]);
CREATE FUNCTION "Odd ""name""; -- x"."F"("In" integer, OUT "Out" text) LANGUAGE plpgsql AS $body$ BEGIN "Out" := 'x'; END $body$;
CREATE TRIGGER "t; 1" BEFORE INSERT ON "Odd ""name""; -- x"."T;1" FOR EACH ROW EXECUTE FUNCTION kind.note();
CREATE POLICY "p ""1""" ON "Odd ""name""; -- x"."T;1" TO PUBLIC USING (true);
-- A schema that sorts before what it needs, and names that pg_ would not begin.
CREATE SCHEMA "PG_looks_reserved";
CREATE TABLE "PG_looks_reserved".t (id integer PRIMARY KEY, at kind.mood);
