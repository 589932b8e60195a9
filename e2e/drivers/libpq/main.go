// Command libpq is the loop of lib/pq below database/sql: see doc.go of the
// directory above. It is a module of its own, so that crossfade's needs no lib/pq.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/lib/pq"
)

func main() {
	if len(os.Args) > 1 { // someone asks whether it is there
		fmt.Println(version())
		return
	}
	if err := run(context.Background()); err != nil {
		say(map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}

func say(message map[string]any) {
	line, _ := json.Marshal(message)
	fmt.Println(string(line))
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/lib/pq" {
				return m.Version
			}
		}
	}
	return "unknown"
}

type client struct {
	*sql.Conn
	name                                string
	ref, ins, upd, del, tenant, account *sql.Stmt
	operations                          int
}

func run(ctx context.Context) error {
	conninfo := "sslmode=disable"
	if os.Getenv("CROSSFADE_MODE") == "binary" {
		conninfo += " binary_parameters=yes"
	}
	connector, err := pq.NewConnector(conninfo)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &client{Conn: conn, name: os.Getenv("CROSSFADE_LOOP")}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	var stopped atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stopped.Store(true)
	}()
	say(map[string]any{"driver": "lib/pq", "version": version()})
	for n := 1; !stopped.Load(); n++ {
		if err := c.round(ctx, n); err != nil {
			return err
		}
		say(map[string]any{"round": n, "operations": c.operations})
	}
	return nil
}

func (c *client) prepare(ctx context.Context) error {
	if _, err := c.ExecContext(ctx, "SET app.tenant = 'north'"); err != nil {
		return err
	}
	for stmt, text := range map[**sql.Stmt]string{
		&c.ref: "SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = $1",
		&c.ins: "INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES ($1, $2, $3, $4, $5, $6, $7)" +
			" RETURNING id, feeling, feelings, numbers, thing, things, amount",
		&c.upd:     "UPDATE item SET feeling = $2 WHERE id = $1 RETURNING feeling",
		&c.del:     "DELETE FROM item WHERE id = $1",
		&c.tenant:  "SELECT set_config('app.tenant', $1, false)",
		&c.account: "SELECT array_agg(n ORDER BY n) FROM account",
	} {
		var err error
		if *stmt, err = c.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// same counts an operation and checks its result.
func (c *client) same(what string, err error, got, want any) error {
	c.operations++
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func (c *client) round(ctx context.Context, n int) error {
	feeling := []string{"sad", "ok", "happy"}[n%3]
	for id, want := range map[int]string{1: "sad [sad happy] light [1 2 3] (1,one,sad) 10", 3: "happy [happy ok sad] dark [-1 0 2147483647] (3,three,happy) 30"} {
		var (
			f, tint, thing string
			fs             []string
			numbers        []int64
			amount         int
		)
		err := c.ref.QueryRowContext(ctx, id).Scan(&f, pq.Array(&fs), &tint, pq.Array(&numbers), &thing, &amount)
		if err := c.same("reference", err, strings.Join([]string{f, fmt.Sprint(fs), tint, fmt.Sprint(numbers), thing, strconv.Itoa(amount)}, " "), want); err != nil {
			return err
		}
	}
	if err := c.within(ctx, func(tx *sql.Tx) error { return c.write(ctx, tx, n, feeling) }); err != nil {
		return err
	}
	if err := c.within(ctx, func(tx *sql.Tx) error { return c.copy(ctx, tx, feeling) }); err != nil {
		return err
	}
	for tenant, want := range map[string][]int64{"north": {1, 2}, "south": {10, 20, 30}} {
		if _, err := c.tenant.ExecContext(ctx, tenant); err != nil {
			return err
		}
		var got []int64
		err := c.account.QueryRowContext(ctx).Scan(pq.Array(&got))
		if err := c.same("tenant "+tenant, err, got, want); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) within(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (c *client) write(ctx context.Context, tx *sql.Tx, n int, feeling string) error {
	var (
		id, amount       int64
		f, thing, things string
		fs               []string
		numbers          []int64
	)
	err := tx.StmtContext(ctx, c.ins).QueryRowContext(ctx, c.name, feeling, pq.Array([]string{feeling, "ok"}), pq.Array([]int{n, -n}),
		fmt.Sprintf("(%d,a,%s)", n, feeling), `{"(1,b,ok)","(,,)"}`, n).Scan(&id, &f, pq.Array(&fs), pq.Array(&numbers), &thing, &things, &amount)
	if err := c.same("insert", err, fmt.Sprint(f, fs, numbers, thing, things, amount),
		fmt.Sprint(feeling, []string{feeling, "ok"}, []int{n, -n}, fmt.Sprintf("(%d,a,%s)", n, feeling), `{"(1,b,ok)","(,,)"}`, n)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT here"); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO item SELECT * FROM item WHERE id = $1", id)
	var refused *pq.Error
	if !errors.As(err, &refused) || refused.Code != "23505" {
		return fmt.Errorf("a key came twice: %v", err)
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT here"); err != nil {
		return err
	}
	err = tx.StmtContext(ctx, c.upd).QueryRowContext(ctx, id, "happy").Scan(&f)
	if err := c.same("update", err, f, "happy"); err != nil {
		return err
	}
	_, err = tx.StmtContext(ctx, c.del).ExecContext(ctx, id)
	return c.same("delete", err, nil, nil)
}

func (c *client) copy(ctx context.Context, tx *sql.Tx, feeling string) error {
	in, err := tx.PrepareContext(ctx, "COPY copied (loop, n, feeling) FROM STDIN")
	if err != nil {
		return err
	}
	for i := range 100 {
		if _, err := in.ExecContext(ctx, c.name, i, feeling); err != nil {
			return err
		}
	}
	if _, err := in.ExecContext(ctx); err != nil {
		return err
	}
	if err := in.Close(); err != nil {
		return err
	}
	done, err := tx.ExecContext(ctx, "DELETE FROM copied WHERE loop = $1 AND feeling = $2", c.name, feeling)
	if err != nil {
		return err
	}
	copied, err := done.RowsAffected()
	return c.same("copy in", err, copied, int64(100))
}
