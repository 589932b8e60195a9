# The loop of ruby-pg: prepared statements; results in text or binary. See doc.go.
require 'json'
require 'pg'

NAME = ENV.fetch('CROSSFADE_LOOP')
BINARY = ENV.fetch('CROSSFADE_MODE') == 'binary'
FEELINGS = %w[sad ok happy].freeze
$stdout.sync = true
$operations = 0
$stopped = false

def same(what, got, want)
  $operations += 1
  raise "#{what}: got #{got.inspect}, want #{want.inspect}" unless got == want
end

# Registry reads all types' numbers from the catalog, once.
def register(conn)
  registry = PG::BasicTypeRegistry.new.register_default_types
  [0, 1].each do |format|
    registry.register_type(format, 'mood', PG::TextEncoder::String, format.zero? ? PG::TextDecoder::String : PG::BinaryDecoder::String)
    registry.alias_type(format, 'shade', 'mood')
  end
  conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn, registry: registry)
  conn.exec("SET app.tenant = 'north'")
  conn.exec("LISTEN #{conn.quote_ident(NAME)}")
  conn.prepare('ref', 'SELECT feeling, tint, amount, id FROM reference WHERE id = $1')
  conn.prepare('arrays', 'SELECT feelings, numbers, thing FROM reference WHERE id = $1')
  conn.prepare('ins', 'INSERT INTO item (loop, feeling, feelings, numbers, thing, things, amount) VALUES ($1, $2, $3, $4, $5, $6, $7)' \
    ' RETURNING id, feeling, amount')
  conn.prepare('back', 'SELECT feelings, numbers, thing, things FROM item WHERE id = $1')
  conn.prepare('upd', 'UPDATE item SET feeling = $2 WHERE id = $1 RETURNING feeling')
  conn.prepare('del', 'DELETE FROM item WHERE id = $1')
  conn.prepare('tenant', "SELECT set_config('app.tenant', $1, false)")
  conn.prepare('account', 'SELECT n FROM account ORDER BY n')
end

def run(conn, name, *values, format: BINARY ? 1 : 0)
  conn.exec_prepared(name, values, format).values
end

def round(conn, n)
  feeling = FEELINGS[n % 3]
  same('reference', run(conn, 'ref', 1), [['sad', 'light', 10, 1]])
  same('reference', run(conn, 'ref', 3), [['happy', 'dark', 30, 3]])
  same('arrays', run(conn, 'arrays', 1, format: 0), [[%w[sad happy], [1, 2, 3], '(1,one,sad)']])
  same('arrays', run(conn, 'arrays', 2, format: 0), [[[], [], '(2,two,ok)']])
  conn.transaction do
    (id, *got), = run(conn, 'ins', NAME, feeling, "{#{feeling},ok}", "{#{n},-1}", "(#{n},a,#{feeling})", '{"(1,b,ok)","(,,)"}', n)
    same('insert', got, [feeling, n])
    same('back', run(conn, 'back', id, format: 0), [[[feeling, 'ok'], [n, -1], "(#{n},a,#{feeling})", '{"(1,b,ok)","(,,)"}']])
    conn.exec('SAVEPOINT here')
    begin
      conn.exec_params('INSERT INTO item SELECT * FROM item WHERE id = $1', [id])
      raise 'a key came twice'
    rescue PG::UniqueViolation
      conn.exec('ROLLBACK TO SAVEPOINT here')
    end
    same('update', run(conn, 'upd', id, 'happy'), [['happy']])
    same('delete', conn.exec_prepared('del', [id]).cmd_tuples, 1)
  end
  conn.transaction do
    copied = conn.copy_data('COPY copied FROM STDIN') { 100.times { |i| conn.put_copy_data("#{NAME}\t#{i}\t#{feeling}\n") } }
    same('copy in', copied.cmd_tuples, 100)
    rows = []
    conn.copy_data("COPY (SELECT n, feeling FROM copied WHERE loop = '#{NAME}' ORDER BY n) TO STDOUT") do
      while (line = conn.get_copy_data)
        rows << line
      end
    end
    same('copy out', rows[99], "99\t#{feeling}\n")
    conn.exec_params('DELETE FROM copied WHERE loop = $1', [NAME])
  end
  { 'north' => [1, 2], 'south' => [10, 20, 30] }.each do |tenant, want|
    run(conn, 'tenant', tenant)
    same("tenant #{tenant}", run(conn, 'account').flatten, want)
  end
  conn.exec_params('SELECT pg_notify($1, $2)', [NAME, n.to_s])
  conn.wait_for_notify { |_channel, _pid, payload| same('notification', payload, n.to_s) }
end

begin
  Thread.new do
    $stdin.read
    $stopped = true
  end
  conn = PG.connect
  puts JSON.generate(driver: 'ruby-pg', version: "#{PG::VERSION} (libpq #{PG.library_version})")
  register(conn)
  n = 0
  until $stopped
    n += 1
    round(conn, n)
    puts JSON.generate(round: n, operations: $operations)
  end
  conn.close
rescue StandardError => e
  warn e.full_message
  puts JSON.generate(error: "#{e.class}: #{e.message}")
  exit 1
end
