package history

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"crossfade/internal/base/pg"
)

// ListOp is one step of a transaction on lists: it reads the list of a key, or appends a value to
// it. No value is appended to a key twice.
type ListOp struct {
	Key    int64
	Append int64   // 0 for a read
	Read   []int64 // what the read returned
}

// ListsDDL returns the statement that makes the table of the lists. Its rows are made by the first
// append to a key.
func ListsDDL(table pg.Name) string {
	return `CREATE TABLE ` + table.String() + ` (key bigint PRIMARY KEY, items bigint[] NOT NULL)`
}

// readLists reads the lists as they are in the end.
func readLists(ctx context.Context, q Querier, table pg.Name) ([]ListOp, error) {
	rows, err := q.Query(ctx, `SELECT key, items FROM `+table.String())
	if err != nil {
		return nil, fmt.Errorf("read lists %s: %w", table.Display(), err)
	}
	defer rows.Close()
	var all []ListOp
	for rows.Next() {
		var op ListOp
		if err := rows.Scan(&op.Key, &op.Read); err != nil {
			return nil, fmt.Errorf("read lists %s: %w", table.Display(), err)
		}
		all = append(all, op)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read lists %s: %w", table.Display(), err)
	}
	return all, nil
}

// element is a value in the list of a key.
type element struct{ key, value int64 }

// listChecker judges transactions on lists, which ran at isolation level serializable: the lists
// tell the order of the appends, and so which transaction depends on which. A cycle of dependencies
// is an order that no serial execution has. PostgreSQL's snapshots make it strict: what ended
// before another transaction began comes before it.
//
// The method is that of Elle (Kingsbury and Alvaro, VLDB 2020).
type listChecker struct {
	res    *Result
	ops    []Operation
	by     map[element]int // the transaction that appended it
	orders map[int64][]int64
	longer map[int64]int // the transaction that read the longest list of a key
	edges  [][]edge
}

// edge is a dependency: the transaction to comes after the one that has the edge.
type edge struct {
	to  int
	why string
}

// checkLists adds to res what is wrong with the lists, which are final in the end.
func checkLists(res *Result, ops []Operation, final []ListOp) {
	end := time.Time{}
	c := &listChecker{res: res, by: map[element]int{}, orders: map[int64][]int64{}, longer: map[int64]int{}}
	for _, o := range ops {
		if len(o.Lists) > 0 {
			c.ops = append(c.ops, o)
		}
		if o.End.After(end) {
			end = o.End
		}
	}
	res.ListTransactions = len(c.ops)
	c.ops = append(c.ops, Operation{Kind: "the lists in the end", Start: end.Add(time.Second), End: end.Add(time.Second), Lists: final})
	c.appenders()
	c.versions()
	c.seen()
	c.lost(final)
	c.dependencies()
	c.inTime()
	c.cycles()
}

func (c *listChecker) appenders() {
	for i, o := range c.ops {
		for _, op := range o.Lists {
			if op.Append != 0 {
				c.by[element{op.Key, op.Append}] = i
			}
		}
	}
}

// versions finds the order of each key's values: every list that was read is a prefix of the
// longest.
func (c *listChecker) versions() {
	c.reads(func(i int, op ListOp) {
		if len(op.Read) > len(c.orders[op.Key]) {
			c.orders[op.Key], c.longer[op.Key] = op.Read, i
		}
	})
	c.reads(func(i int, op ListOp) {
		if order := c.orders[op.Key]; !slices.Equal(order[:len(op.Read)], op.Read) {
			c.res.Disagreeing.add("key %d: %s read %v, %s read %v", op.Key, c.name(i), tail(op.Read), c.name(c.longer[op.Key]), tail(order))
		}
	})
	for key, order := range c.orders {
		times := map[int64]int{}
		for _, v := range order {
			if times[v]++; times[v] == 2 {
				c.res.Doubled.add("value %d of key %d, appended by %s", v, key, c.name(c.by[element{key, v}]))
			}
		}
	}
}

// reads calls f for each read of a transaction that may have committed.
func (c *listChecker) reads(f func(i int, op ListOp)) {
	for i, o := range c.ops {
		if o.Outcome == Failed {
			continue
		}
		for _, op := range o.Lists {
			if op.Append == 0 {
				f(i, op)
			}
		}
	}
}

// seen looks for values that must not be seen: those that nobody appended, those of transactions
// that failed, and those that their own transaction followed by another one of the same key.
func (c *listChecker) seen() {
	c.reads(func(i int, op ListOp) {
		for _, v := range op.Read {
			j, ok := c.by[element{op.Key, v}]
			switch {
			case !ok:
				c.res.Unrecorded.add("value %d of key %d, read by %s", v, op.Key, c.name(i))
			case c.ops[j].Outcome == Failed:
				c.res.Phantom.add("value %d of key %d, read by %s: its transaction failed, %s", v, op.Key, c.name(i), c.name(j))
			}
		}
		if n := len(op.Read); n > 0 {
			if j, ok := c.by[element{op.Key, op.Read[n-1]}]; ok && j != i && c.last(j, op.Key) != op.Read[n-1] {
				c.res.Disagreeing.add("key %d: %s read a list from the middle of %s: %v", op.Key, c.name(i), c.name(j), tail(op.Read))
			}
		}
	})
}

// last is the value that a transaction appended to a key last.
func (c *listChecker) last(i int, key int64) (v int64) {
	for _, op := range c.ops[i].Lists {
		if op.Key == key && op.Append != 0 {
			v = op.Append
		}
	}
	return v
}

// lost looks for values of acknowledged transactions that are not in the lists in the end.
func (c *listChecker) lost(final []ListOp) {
	there := map[element]bool{}
	for _, op := range final {
		for _, v := range op.Read {
			there[element{op.Key, v}] = true
		}
	}
	for e, i := range c.by {
		if c.ops[i].Outcome == OK && !there[e] {
			c.res.Lost.add("value %d of key %d, appended by %s", e.value, e.key, c.name(i))
		}
	}
}

// dependencies adds the edges that the lists tell: a value comes after the value before it in the
// list (ww), a reader after the last value that it read (wr), and before the next one (rw).
func (c *listChecker) dependencies() {
	c.edges = make([][]edge, len(c.ops))
	for key, order := range c.orders {
		for k := 1; k < len(order); k++ {
			c.depend(key, order[k-1], order[k], "ww")
		}
	}
	c.reads(func(i int, op ListOp) {
		order, n := c.orders[op.Key], len(op.Read)
		if !slices.Equal(order[:n], op.Read) {
			return
		}
		if n > 0 {
			if j, ok := c.by[element{op.Key, order[n-1]}]; ok {
				c.add(j, i, "wr", op.Key)
			}
		}
		if n < len(order) {
			if j, ok := c.by[element{op.Key, order[n]}]; ok {
				c.add(i, j, "rw", op.Key)
			}
		}
	})
}

func (c *listChecker) depend(key, before, after int64, why string) {
	i, ok := c.by[element{key, before}]
	j, ok2 := c.by[element{key, after}]
	if ok && ok2 {
		c.add(i, j, why, key)
	}
}

func (c *listChecker) add(from, to int, why string, key int64) {
	if from != to {
		c.edges[from] = append(c.edges[from], edge{to, fmt.Sprintf("%s of key %d", why, key)})
	}
}

// inTime adds a node for each end of an acknowledged transaction, in the order of time: a
// transaction leads to the node of its end, each of these to the next one, and the last one before
// a transaction began to that transaction.
func (c *listChecker) inTime() {
	var ended []int
	for i, o := range c.ops {
		if o.Outcome == OK {
			ended = append(ended, i)
		}
	}
	slices.SortFunc(ended, func(a, b int) int { return c.ops[a].End.Compare(c.ops[b].End) })
	first := len(c.ops)
	for n, i := range ended {
		c.edges[i] = append(c.edges[i], edge{first + n, "ended"})
		var next []edge
		if n+1 < len(ended) {
			next = []edge{{first + n + 1, "time"}}
		}
		c.edges = append(c.edges, next)
	}
	for i, o := range c.ops {
		n, _ := slices.BinarySearchFunc(ended, o.Start, func(e int, at time.Time) int { return c.ops[e].End.Compare(at) })
		if n > 0 {
			c.edges[first+n-1] = append(c.edges[first+n-1], edge{i, "began"})
		}
	}
}

// cycles finds the strongly connected components with more than one node, and names a cycle of
// each.
func (c *listChecker) cycles() {
	for _, component := range components(c.edges) {
		if len(component) > 1 {
			c.res.Cycles.add("%s", c.cycle(component))
		}
	}
}

// cycle is a shortest cycle through the first transaction of a component.
func (c *listChecker) cycle(component []int) string {
	start := slices.Min(component) // a transaction: the nodes of time come after them
	in := map[int]bool{}
	for _, n := range component {
		in[n] = true
	}
	type step struct {
		from int
		why  string
	}
	from := map[int]step{}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		for _, e := range c.edges[queue[0]] {
			if _, known := from[e.to]; in[e.to] && !known {
				from[e.to] = step{queue[0], e.why}
				queue = append(queue, e.to)
			}
		}
		if _, back := from[start]; back {
			break
		}
	}
	var path []string
	for n := start; ; {
		s := from[n]
		if n < len(c.ops) {
			path = append(path, c.name(n))
		}
		if !slices.Contains([]string{"ended", "time"}, s.why) {
			path = append(path, cmp.Or(map[string]string{"began": "ended before"}[s.why], s.why))
		}
		if n = s.from; n == start {
			break
		}
	}
	slices.Reverse(path)
	return c.name(start) + " " + strings.Join(path, " ")
}

func (c *listChecker) name(i int) string {
	o := c.ops[i]
	if o.Token.Seq == 0 {
		return o.Kind
	}
	return fmt.Sprintf("(%v, %v)", o.Token, o.Outcome)
}

// tail is the end of a list, for a message.
func tail(list []int64) []int64 { return list[max(0, len(list)-8):] }

// components are the strongly connected components of a graph (Tarjan's algorithm, without
// recursion).
func components(edges [][]edge) (all [][]int) {
	const unseen = 0
	index, low := make([]int, len(edges)), make([]int, len(edges))
	onStack := make([]bool, len(edges))
	var stack []int
	count := 0
	type frame struct{ node, next int }
	for root := range edges {
		if index[root] != unseen {
			continue
		}
		work := []frame{{root, 0}}
		for len(work) > 0 {
			f := &work[len(work)-1]
			n := f.node
			if f.next == 0 && index[n] == unseen {
				count++
				index[n], low[n] = count, count
				stack, onStack[n] = append(stack, n), true
			}
			if f.next < len(edges[n]) {
				to := edges[n][f.next].to
				f.next++
				if index[to] == unseen {
					work = append(work, frame{to, 0})
				} else if onStack[to] {
					low[n] = min(low[n], index[to])
				}
				continue
			}
			if low[n] == index[n] {
				at := slices.Index(stack, n)
				all = append(all, slices.Clone(stack[at:]))
				for _, m := range stack[at:] {
					onStack[m] = false
				}
				stack = stack[:at]
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				parent := work[len(work)-1].node
				low[parent] = min(low[parent], low[n])
			}
		}
	}
	return all
}
