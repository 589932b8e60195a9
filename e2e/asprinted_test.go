package e2e_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// printedCommand is a command of the program as a text prints it, with its flags but for the connection strings.
var printedCommand = regexp.MustCompile(`crossfade (?:clean|copy|cutover|finish|recover|run|status)(?: --[a-z-]+(?:=\S+)?)*`)

// printed returns the words after the program's name of the command in a text that begins so.
func printed(t *testing.T, said, begins string) []string {
	t.Helper()
	for _, c := range printedCommand.FindAllString(said, -1) {
		if strings.HasPrefix(c, "crossfade "+begins) {
			words := strings.Fields(c)[1:]
			return words[:len(words)-strings.Count(c, " --source")-strings.Count(c, " --target")]
		}
	}
	require.Fail(t, "no such command is printed", "%s in: %s", begins, said)
	return nil
}

// TestAFinishIsGrantedAsItsRefusalsPrint asks for the end of a run as soon as it follows, and types what each refusal says.
func TestAFinishIsGrantedAsItsRefusalsPrint(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	p := following(t, s)
	out, code := p.ctl("finish")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "the source is still active")
	require.Equal(t, 1, strings.Count(out, "still active"), out)
	said, code := p.ctl(printed(t, out, "cutover")...)
	require.Equal(t, 0, code, said)
	p.awaitWhole()
	p.await("nothing is left", func(st control.Status) bool { return len(st.Blockers) == 0 })

	// A clean of a run that was switched says how to end it, whether a process serves it or not.
	p.kill()
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "the target is the active side of this run")
	require.Equal(t, []string{"run"}, printed(t, out, "run"))
	require.Equal(t, []string{"clean", "--force"}, printed(t, out, "clean"))
	finish := printed(t, out, "finish")
	none, code := p.ctl(finish...)
	require.Equal(t, 1, code, none)
	oneLine(t, none, "no daemon answers at control socket", "crossfade run")
	p.start()
	p.awaitWhole()
	p.await("nothing is left", func(st control.Status) bool { return len(st.Blockers) == 0 })

	out, code = p.ctl(finish...)
	require.Equal(t, 1, code, out)
	oneLine(t, out, "which needs a terminal; nothing was changed")
	_, flag, _ := strings.Cut(out, "nothing was changed: give ")
	finish = append(finish, flag)

	// What cannot be dropped is named, and dropped when its cause is gone.
	admin := adminOf(t, s.targetCluster, s.target.Database())
	owner := pgtest.Value(t, admin, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'crossfade'")
	pgtest.Exec(t, admin, "ALTER SCHEMA crossfade OWNER TO CURRENT_USER")
	out, code = p.ctl(finish...)
	require.Equal(t, 3, code, out)
	require.Equal(t, 1, strings.Count(out, "not everything could be dropped: "), out)
	require.Equal(t, []string{"clean", "--force"}, printed(t, out, "clean"))
	again := append(printed(t, out, "finish"), flag)
	pgtest.Exec(t, admin, "ALTER SCHEMA crossfade OWNER TO "+owner)
	out, code = p.ctl(again...)
	require.Equal(t, 0, code, out)
	require.Equal(t, 0, p.stop())

	// The source stays closed until someone opens it with what is printed.
	_, err := pgtest.Conn(t, s.source).Exec(t.Context(), "UPDATE public.kept SET v = v")
	require.Error(t, err)
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "its source is kept closed so that nobody writes there by mistake")
	out, code = s.say(t, nil, printed(t, out, "clean")...)
	require.Equal(t, 0, code, out)
	pgtest.Exec(t, pgtest.Conn(t, s.source), "UPDATE public.kept SET v = v")
	s.requireNothingLeft(t)
}

// TestACopyThatWasRefusedIsRemovedAsItIsPrinted types what a copy says that meets one whose rows the target has refused.
func TestACopyThatWasRefusedIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	for _, keeps := range []bool{false, true} {
		s := newSides(t)
		source := pgtest.Conn(t, s.source)
		pgtest.Exec(t, source, `CREATE FUNCTION public.here(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
				IF pg_catalog.current_setting('neon.endpoint_id', true) <> '' AND n = 3 THEN RAISE EXCEPTION 'not on this side'; END IF; RETURN n; END $$;
			CREATE TABLE public.made (id int PRIMARY KEY, g int GENERATED ALWAYS AS (public.here(id)) STORED); INSERT INTO public.made SELECT generate_series(1, 5)`)
		out, code := s.say(t, nil, "copy")
		require.Equal(t, 3, code, out)
		out, code = s.say(t, nil, "copy")
		require.Equal(t, 1, code, out)
		oneLine(t, out, "the copy that was made here lacks tables or rows that the target has refused")
		target := pgtest.Conn(t, s.target)
		if keeps {
			_, sql, _ := strings.Cut(out, "keep the target as it is: ")
			pgtest.Exec(t, target, strings.TrimSuffix(sql, " there"))
			s.requireNothingLeft(t)
			continue
		}
		pgtest.Exec(t, source, `DELETE FROM public.made WHERE id = 3`) // the cause
		out, code = s.say(t, nil, printed(t, out, "clean")...)
		require.Equal(t, 0, code, out)
		out, code = s.say(t, nil, "copy")
		require.Equal(t, 0, code, out)
		require.Equal(t, "4", pgtest.Value(t, target, "SELECT count(*) FROM public.made"))
		s.requireNothingLeft(t)
	}
}

// TestACopyWhoseTablesAreOfTwoMomentsIsAcceptedOrStartedOverAsItIsPrinted has a copy be broken off when its tables are there.
func TestACopyWhoseTablesAreOfTwoMomentsIsAcceptedOrStartedOverAsItIsPrinted(t *testing.T) {
	t.Parallel()
	for _, accepts := range []bool{true, false} {
		s := newSides(t)
		pgtest.Exec(t, pgtest.Conn(t, s.source), "CREATE TABLE public.a (id int PRIMARY KEY); CREATE TABLE public.b (id int PRIMARY KEY); INSERT INTO public.a VALUES (1)")
		copyKilled(t, s, "phase.copied=kill")
		target := pgtest.Conn(t, s.target)
		pgtest.Exec(t, target, "UPDATE crossfade.relation SET snapshot = '3:3:' WHERE rel = 'b'")
		out, code := s.say(t, nil, "copy", "--log-level=error")
		require.Equal(t, 3, code, out)
		out = errorLine(t, out)
		oneLine(t, out, "the tables on the target are not of one moment")
		require.Equal(t, 1, strings.Count(out, "not of one moment"), out)
		flag := ""
		if accepts {
			flag = regexp.MustCompile(`accept it with (--[a-z-]+)`).FindStringSubmatch(out)[1]
		} else {
			said, code := s.say(t, nil, printed(t, out, "clean")...)
			require.Equal(t, 0, code, said)
		}
		out, code = s.say(t, nil, strings.Fields("copy "+flag)...)
		require.Equal(t, 0, code, out)
		s.requireNothingLeft(t)
	}
}
