package workload

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"crossfade/internal/lab/history"
)

// ownSetting is a setting that the application made up, as row-level security
// uses them. It is lost with the session.
const ownSetting = "workload.client"

// prepared is the statement that the clients without statements of their driver
// prepare by SQL.
const prepared = "workload_seen"

// timeZones make sessions differ from the server's default and from each other.
var timeZones = []string{"Asia/Kolkata", "America/St_Johns", "UTC"}

func (c *client) timeZone() string { return timeZones[c.number%len(timeZones)] }

// setup is what the client does to each new session.
func (c *client) setup() []string {
	texts := []string{
		"SET search_path = " + c.cfg.Scenario.searchPath(),
		"SET TimeZone = '" + c.timeZone() + "'",
		"SET " + ownSetting + " = '" + strconv.Itoa(c.number) + "'",
	}
	if c.preparesBySQL() {
		texts = append(texts, "PREPARE "+prepared+"(int, bigint) AS "+c.seenSQL())
	}
	return texts
}

func (c *client) preparesBySQL() bool { return c.driver == PSQL || c.driver == SimpleProtocol }

// seenSQL asks how often a token is in the ledger, and what the session is like.
func (c *client) seenSQL() string {
	return `SELECT count(*), current_setting('` + ownSetting + `', true), current_setting('TimeZone'), current_setting('search_path')
		FROM ` + c.cfg.Scenario.Ledger().String() + ` WHERE client = $1::int AND seq = $2::bigint`
}

// seen reads the last acknowledged token back.
func (c *client) seen(ctx context.Context, w *work) error {
	text := c.seenSQL()
	if c.preparesBySQL() {
		text = "EXECUTE " + prepared + "(" + strconv.Itoa(c.number) + ", " + strconv.FormatInt(c.acked, 10) + ")"
		rows, err := w.rows(ctx, text)
		c.judge(rows, err, w)
		return err
	}
	rows, err := w.rows(ctx, text, int64(c.number), c.acked)
	c.judge(rows, err, w)
	return err
}

func (c *client) judge(rows [][]string, err error, w *work) {
	if err != nil {
		return
	}
	want := []string{"1", strconv.Itoa(c.number), c.timeZone(), c.cfg.Scenario.searchPath()}
	if len(rows) != 1 || fmt.Sprint(rows[0]) != fmt.Sprint(want) {
		w.op.Stale = fmt.Sprintf("transaction %d and the session: want %q, have %q", c.acked, want, rows)
	}
}

// ledger is the insert of the present token. ids is an SQL expression of type
// bigint[]; its parameters begin at $4.
func (c *client) ledger(kind, ids string, args ...any) statement {
	return sql(c.insertLedger(ids, 0), append([]any{int64(c.number), c.seq, kind}, args...)...)
}

// singleLedger puts the step's statement and the ledger's insert into one.
func (c *client) singleLedger(kind string, x single) statement {
	ids := "'{}'::bigint[]"
	if x.sequence != "" {
		ids = "coalesce((SELECT array_agg(id ORDER BY id) FROM body), '{}')"
	}
	n := len(x.body.args)
	return sql("WITH body(id) AS ("+x.body.sql+") "+c.insertLedger(ids, n),
		append(append([]any{}, x.body.args...), int64(c.number), c.seq, kind)...)
}

// insertLedger takes client, seq and kind as the parameters after the first n.
// The row says what the transaction saw of its own client, and where it ran.
func (c *client) insertLedger(ids string, n int) string {
	table := c.cfg.Scenario.Ledger().String()
	client := "$" + strconv.Itoa(n+1) + "::int"
	return fmt.Sprintf(`INSERT INTO %s (client, seq, kind, prev, side, ids)
		SELECT %s, $%d::bigint, $%d::text, coalesce((SELECT max(seq) FROM %s WHERE client = %s), 0), %s, %s
		RETURNING side, array_to_string(ids, ',')`,
		table, client, n+2, n+3, table, client, history.SideSQL, ids)
}

// idList writes ids as an array's text; as a parameter, so that the statement's
// text stays the same and drivers may keep it prepared.
func idList(ids []history.ID) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = strconv.FormatInt(id.Value, 10)
	}
	return "{" + strings.Join(list, ",") + "}"
}
