package drivers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

var pgxModes = map[string]pgx.QueryExecMode{
	"cache_statement": pgx.QueryExecModeCacheStatement,
	"cache_describe":  pgx.QueryExecModeCacheDescribe,
	"describe_exec":   pgx.QueryExecModeDescribeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple_protocol": pgx.QueryExecModeSimpleProtocol,
}

// mood and thing are the types mood and pair.
type mood string

type thing struct {
	A *int32
	B *string
	M *mood
}

// row is what the loop writes and reads back.
type row struct {
	feeling  mood
	feelings []mood
	numbers  []int32
	thing    thing
	things   []thing
	amount   int32
}

func (r *row) into() []any {
	return []any{&r.feeling, &r.feelings, &r.numbers, &r.thing, &r.things, &r.amount}
}

const (
	pgxColumns = "feeling, feelings, numbers, thing, things, amount"
	pgxRef     = "SELECT feeling, feelings, numbers, thing, '{}'::pair[], amount FROM reference WHERE id = $1"
	pgxIns     = "INSERT INTO item (loop, " + pgxColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id, " + pgxColumns
)

// pgxClient is the loop of pgx, with the version that this module requires.
type pgxClient struct {
	*pgx.Conn
	name       string
	home       string // the database on the side where the loop began
	late       bool   // it has met the types that it is to meet after a switch
	operations int
}

func pgxLoop(g *rig, mode string) func(ctx context.Context, stop <-chan struct{}, out io.Writer) error {
	return func(ctx context.Context, stop <-chan struct{}, out io.Writer) error {
		cfg := g.client.Config()
		cfg.DefaultQueryExecMode = pgxModes[mode]
		notes := make(chan string, 1)
		cfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { notes <- n.Payload }
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			return err
		}
		c := &pgxClient{Conn: conn, name: "pgx/" + mode, home: g.home}
		version, err := pgxVersion()
		if err == nil {
			err = c.register(ctx)
		}
		if err == nil {
			say(out, message{Driver: "pgx", Version: version})
			for n := 1; err == nil && !closed(stop); n++ {
				if err = c.round(ctx, n, notes); err == nil {
					say(out, message{Round: n, Operations: c.operations})
				}
			}
		}
		return errors.Join(err, conn.Close(ctx))
	}
}

func closed(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// pgxVersion reads the version that our module requires.
func pgxVersion() (string, error) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(mod), "github.com/jackc/pgx/v5 ")
	version, _, _ := strings.Cut(rest, "\n")
	return version, nil
}

func (c *pgxClient) register(ctx context.Context) error {
	if err := c.load(ctx, "mood", "_mood", "shade", "pair", "_pair", "positive"); err != nil {
		return err
	}
	// Modes without a description of the parameters go by the types of the values.
	for name, value := range map[string]any{"mood": mood(""), "_mood": []mood{}, "pair": thing{}, "_pair": []thing{}} {
		c.TypeMap().RegisterDefaultPgType(value, name)
	}
	_, err := c.Exec(ctx, "SET app.tenant = 'north'")
	if err == nil {
		_, err = c.Exec(ctx, "LISTEN "+pgx.Identifier{c.name}.Sanitize())
	}
	return err
}

func (c *pgxClient) load(ctx context.Context, names ...string) error {
	for _, name := range names {
		t, err := c.LoadType(ctx, name)
		if err != nil {
			return fmt.Errorf("load type %s: %w", name, err)
		}
		c.TypeMap().RegisterType(t)
	}
	return nil
}

// same counts an operation and checks its result.
func (c *pgxClient) same(what string, err error, got, want any) error {
	c.operations++
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: got %+v, want %+v", what, got, want)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func (c *pgxClient) round(ctx context.Context, n int, notes <-chan string) error {
	feeling := []mood{"sad", "ok", "happy"}[n%3]
	for id, want := range map[int]row{
		1: {"sad", []mood{"sad", "happy"}, []int32{1, 2, 3}, thing{ptr(int32(1)), ptr("one"), ptr(mood("sad"))}, []thing{}, 10},
		3: {"happy", []mood{"happy", "ok", "sad"}, []int32{-1, 0, 2147483647}, thing{ptr(int32(3)), ptr("three"), ptr(mood("happy"))}, []thing{}, 30},
	} {
		var got row
		err := c.QueryRow(ctx, pgxRef, id).Scan(got.into()...)
		if err := c.same("reference", err, got, want); err != nil {
			return err
		}
	}
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return c.write(ctx, tx, int32(n), feeling) })
	if err == nil {
		err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error { return c.copy(ctx, tx, feeling) })
	}
	if err == nil {
		err = c.tenants(ctx)
	}
	if err != nil {
		return err
	}
	if err := c.meet(ctx); err != nil {
		return err
	}
	_, err = c.Exec(ctx, "SELECT pg_notify($1, $2)", c.name, strconv.Itoa(n))
	if err == nil {
		// A notification that came with the answer is told already.
		select {
		case payload := <-notes:
			return c.same("notification", nil, payload, strconv.Itoa(n))
		default:
		}
		var note *pgconn.Notification
		if note, err = c.WaitForNotification(ctx); err == nil {
			return c.same("notification", nil, note.Payload, strconv.Itoa(n))
		}
	}
	return err
}

func (c *pgxClient) write(ctx context.Context, tx pgx.Tx, n int32, feeling mood) error {
	want := row{feeling, []mood{feeling, "ok"}, []int32{n, -n, 0}, thing{&n, ptr("a thing"), &feeling}, []thing{{&n, ptr(`quoted "q", (x)`), ptr(mood("ok"))}, {}}, n}
	var got row
	var id int64
	err := tx.QueryRow(ctx, pgxIns, c.name, want.feeling, want.feelings, want.numbers, want.thing, want.things, want.amount).Scan(append([]any{&id}, got.into()...)...)
	if err := c.same("insert", err, got, want); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
		_, err := inner.Exec(ctx, "INSERT INTO item SELECT * FROM item WHERE id = $1", id)
		return err
	})
	if err := c.same("savepoint", nil, pg.Code(err), "23505"); err != nil {
		return err
	}
	var batch pgx.Batch
	batch.Queue("UPDATE item SET feeling = $2 WHERE id = $1", id, mood("happy"))
	batch.Queue("SELECT feeling FROM item WHERE id = $1", id)
	batch.Queue("DELETE FROM item WHERE id = $1", id)
	results := tx.SendBatch(ctx, &batch)
	_, err = results.Exec()
	if err == nil {
		var now mood
		if err = results.QueryRow().Scan(&now); err == nil {
			err = c.same("batch", nil, now, mood("happy"))
		}
	}
	return errors.Join(err, results.Close())
}

func (c *pgxClient) copy(ctx context.Context, tx pgx.Tx, feeling mood) error {
	source := pgx.CopyFromSlice(100, func(i int) ([]any, error) { return []any{c.name, int32(i), feeling}, nil })
	copied, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"loop", "n", "feeling"}, source)
	if err := c.same("copy in", err, copied, int64(100)); err != nil {
		return err
	}
	var all []mood
	err = tx.QueryRow(ctx, "SELECT array_agg(DISTINCT feeling) FROM copied WHERE loop = $1", c.name).Scan(&all)
	if err := c.same("copied", err, all, []mood{feeling}); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "DELETE FROM copied WHERE loop = $1", c.name)
	return err
}

func (c *pgxClient) tenants(ctx context.Context) error {
	for tenant, want := range map[string][]int32{"north": {1, 2}, "south": {10, 20, 30}} {
		if _, err := c.Exec(ctx, "SELECT set_config('app.tenant', $1, false)", tenant); err != nil {
			return err
		}
		rows, _ := c.Query(ctx, "SELECT n FROM account ORDER BY n")
		got, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err := c.same("tenant "+tenant, err, got, want); err != nil {
			return err
		}
	}
	return nil
}

// meet uses types that the loop meets for the first time after a switch.
func (c *pgxClient) meet(ctx context.Context) error {
	if !c.late {
		var here string
		if err := c.QueryRow(ctx, "SELECT current_database()").Scan(&here); err != nil || here == c.home {
			return err
		}
		if err := c.load(ctx, "season", "_season", "weather"); err != nil {
			return err
		}
		c.late = true
	}
	type weather struct {
		S string
		N int32
	}
	var (
		s   string
		all []string
		w   weather
	)
	err := c.QueryRow(ctx, "SELECT s, all_of_them, w FROM late").Scan(&s, &all, &w)
	return c.same("late", err, []any{s, all, w}, []any{"autumn", []string{"autumn", "spring"}, weather{"spring", 7}})
}
