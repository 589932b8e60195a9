import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.Arrays;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;

/** The loop of JDBC: statements on the server from their fifth use on, binary numbers. See doc.go. */
public class Loop {
    static final String NAME = System.getenv("CROSSFADE_LOOP");
    static final String[] FEELINGS = {"sad", "ok", "happy"};
    static volatile boolean stopped;
    static int operations;

    static void same(String what, Object got, Object want) {
        operations++;
        if (!Objects.equals(got, want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    static String list(Array array) throws SQLException {
        return Arrays.toString((Object[]) array.getArray());
    }

    static PGobject pair(String value) throws SQLException {
        PGobject o = new PGobject();
        o.setType("pair");
        o.setValue(value);
        return o;
    }

    final Connection conn;
    final PreparedStatement ref, ins, upd, del, tenant, account, notify, meet;
    boolean late;

    Loop(Connection conn) throws SQLException {
        this.conn = conn;
        try (Statement s = conn.createStatement()) {
            s.execute("SET app.tenant = 'north'");
            s.execute("LISTEN \"" + NAME + "\"");
        }
        ref = conn.prepareStatement("SELECT feeling, feelings, tint, numbers, thing, amount FROM reference WHERE id = ?");
        ins = conn.prepareStatement("INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES (?, ?, ?, ?, ?, ?, ?)"
                + " RETURNING id, feeling, feelings, numbers, thing, things, amount");
        upd = conn.prepareStatement("UPDATE item SET feeling = ?::mood WHERE id = ? RETURNING feeling");
        del = conn.prepareStatement("DELETE FROM item WHERE id = ?");
        tenant = conn.prepareStatement("SELECT set_config('app.tenant', ?, false)");
        account = conn.prepareStatement("SELECT array_agg(n ORDER BY n) FROM account");
        notify = conn.prepareStatement("SELECT pg_notify(?, ?)");
        meet = conn.prepareStatement("SELECT s, all_of_them, w FROM late WHERE all_of_them = ?");
    }

    void round(int n) throws Exception {
        String feeling = FEELINGS[n % 3];
        reference(1, "sad|[sad, happy]|light|[1, 2, 3]|(1,one,sad)|10");
        reference(2, "ok|[]|medium|[]|(2,two,ok)|20");
        reference(3, "happy|[happy, ok, sad]|dark|[-1, 0, 2147483647]|(3,three,happy)|30");
        conn.setAutoCommit(false);
        write(n, feeling);
        conn.commit();
        copy(feeling);
        conn.commit();
        try (PreparedStatement cursor = conn.prepareStatement("SELECT feeling FROM reference ORDER BY id")) {
            cursor.setFetchSize(2);
            try (ResultSet r = cursor.executeQuery()) {
                for (String want : FEELINGS) {
                    r.next();
                    same("cursor", r.getString(1), want);
                }
            }
        }
        conn.commit();
        conn.setAutoCommit(true);
        tenant("north", "[1, 2]");
        tenant("south", "[10, 20, 30]");
        meet();
        notify.setString(1, NAME);
        notify.setString(2, "" + n);
        notify.executeQuery().close();
        PGNotification[] heard = conn.unwrap(PGConnection.class).getNotifications(0);
        same("notification", heard[0].getParameter(), "" + n);
    }

    void reference(int id, String want) throws SQLException {
        ref.setInt(1, id);
        try (ResultSet r = ref.executeQuery()) {
            r.next();
            same("reference", r.getObject(1) + "|" + list(r.getArray(2)) + "|" + r.getString(3) + "|" + list(r.getArray(4)) + "|" + r.getObject(5) + "|" + r.getInt(6), want);
        }
    }

    void write(int n, String feeling) throws SQLException {
        ins.setString(1, NAME);
        ins.setObject(2, feeling, Types.OTHER);
        ins.setArray(3, conn.createArrayOf("mood", new String[] {feeling, "ok"}));
        ins.setArray(4, conn.createArrayOf("int4", new Integer[] {n, -n, 0}));
        ins.setObject(5, pair("(" + n + ",a," + feeling + ")"));
        ins.setArray(6, conn.createArrayOf("pair", new PGobject[] {pair("(1,b,ok)"), pair("(,,)")}));
        ins.setInt(7, n);
        long id;
        try (ResultSet r = ins.executeQuery()) {
            r.next();
            id = r.getLong(1);
            String want = String.format("%s|[%s, ok]|[%d, %d, 0]|(%d,a,%s)|[(1,b,ok), (,,)]|%d", feeling, feeling, n, -n, n, feeling, n);
            same("insert", r.getString(2) + "|" + list(r.getArray(3)) + "|" + list(r.getArray(4)) + "|" + r.getObject(5) + "|" + list(r.getArray(6)) + "|" + r.getInt(7), want);
        }
        Savepoint here = conn.setSavepoint();
        try (PreparedStatement again = conn.prepareStatement("INSERT INTO item SELECT * FROM item WHERE id = ?")) {
            again.setLong(1, id);
            again.executeUpdate();
            throw new AssertionError("a key came twice");
        } catch (SQLException e) {
            same("savepoint", e.getSQLState(), "23505");
            conn.rollback(here);
        }
        upd.setString(1, "happy");
        upd.setLong(2, id);
        try (ResultSet r = upd.executeQuery()) {
            r.next();
            same("update", r.getString(1), "happy");
        }
        del.setLong(1, id);
        same("delete", del.executeUpdate(), 1);
    }

    void copy(String feeling) throws Exception {
        StringBuilder rows = new StringBuilder();
        for (int i = 0; i < 100; i++) {
            rows.append(NAME).append('\t').append(i).append('\t').append(feeling).append('\n');
        }
        PGConnection pg = conn.unwrap(PGConnection.class);
        same("copy in", pg.getCopyAPI().copyIn("COPY copied FROM STDIN", new StringReader(rows.toString())), 100L);
        StringWriter out = new StringWriter();
        pg.getCopyAPI().copyOut("COPY (SELECT n, feeling FROM copied WHERE loop = '" + NAME + "' ORDER BY n) TO STDOUT", out);
        same("copy out", out.toString().split("\n")[99], "99\t" + feeling);
        try (Statement s = conn.createStatement()) {
            s.executeUpdate("DELETE FROM copied WHERE loop = '" + NAME + "'");
        }
    }

    /** Uses types that the loop meets for the first time behind a switch. */
    void meet() throws SQLException {
        if (!late) {
            try (Statement s = conn.createStatement(); ResultSet r = s.executeQuery("SELECT current_database()")) {
                r.next();
                late = !r.getString(1).equals(System.getenv("PGDATABASE"));
            }
        }
        if (!late) {
            return;
        }
        meet.setArray(1, conn.createArrayOf("season", new String[] {"autumn", "spring"}));
        try (ResultSet r = meet.executeQuery()) {
            r.next();
            same("late", r.getObject(1) + "|" + list(r.getArray(2)) + "|" + r.getObject(3), "autumn|[autumn, spring]|(spring,7)");
        }
    }

    void tenant(String name, String want) throws SQLException {
        tenant.setString(1, name);
        tenant.executeQuery().close();
        try (ResultSet r = account.executeQuery()) {
            r.next();
            same("tenant " + name, list(r.getArray(1)), want);
        }
    }

    public static void main(String[] args) {
        Thread watch = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException e) {
                // It is closed, too.
            }
            stopped = true;
        });
        watch.setDaemon(true);
        watch.start();
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        if ("simple".equals(System.getenv("CROSSFADE_MODE"))) {
            p.setProperty("preferQueryMode", "simple");
        }
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        try (Connection conn = DriverManager.getConnection(url, p)) {
            System.out.println("{\"driver\": \"jdbc\", \"version\": \"" + conn.getMetaData().getDriverVersion() + "\"}");
            Loop loop = new Loop(conn);
            for (int n = 1; !stopped; n++) {
                loop.round(n);
                System.out.println("{\"round\": " + n + ", \"operations\": " + operations + "}");
            }
        } catch (Throwable e) {
            e.printStackTrace();
            System.out.println("{\"error\": \"" + e.toString().replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ") + "\"}");
            System.exit(1);
        }
    }
}
