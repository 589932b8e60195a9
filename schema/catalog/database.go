package catalog

import (
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Database is what a catalog says at one moment. Nobody changes it after Read, so it may be shared.
type Database struct {
	Name           string
	Version        int    // server_version_num, such as 150004
	Encoding       string // of the database
	Schemas        []string
	Relations      []*Relation  // tables of the application, by schema and name
	Disordered     []Disordered // children of table inheritance, foreign tables too, by schema and name
	Config         []*Relation  // configuration tables of extensions, whose rows are to be copied where Configuration.Condition holds
	Sequences      []Sequence
	Extensions     []Extension
	ForeignKeys    []ForeignKey
	Triggers       []Trigger
	Rules          []Rule
	MatViews       []MatView // each after those that it reads
	Publications   []string
	Subscriptions  []string  // of this database
	InvalidIndexes []pg.Name // that could not be built, which pg_dump leaves out
	LargeObjects   int64     // exact up to MaxLargeObjects
	HashProbe      string    // the same on servers whose hash functions agree

	byOID  map[uint32]*Relation
	byName map[pg.Name]*Relation
}

// MaxLargeObjects is where the count of large objects ends: one is too many
// already, and counting all could take minutes.
const MaxLargeObjects = 1000

// Relation returns the table with this oid, nil if there is none.
func (d *Database) Relation(oid uint32) *Relation { return d.byOID[oid] }

// Lookup returns the table of this name, nil if there is none.
func (d *Database) Lookup(name pg.Name) *Relation { return d.byName[name] }

// Leaves returns the partitions below a partitioned table that hold rows
// themselves, and the table itself if it is no partitioned one.
func (d *Database) Leaves(r *Relation) []*Relation {
	if r.Kind != KindPartitioned {
		return []*Relation{r}
	}
	var out []*Relation
	for _, c := range d.Relations {
		if c.Parent == r.OID {
			out = append(out, d.Leaves(c)...)
		}
	}
	return out
}

// Index fills the maps that Relation and Lookup use. Read calls it; code that makes a Database by
// hand calls it once the relations are in.
func (d *Database) Index() {
	d.byOID = make(map[uint32]*Relation, len(d.Relations)+len(d.Config))
	d.byName = make(map[pg.Name]*Relation, len(d.Relations)+len(d.Config))
	for _, list := range [][]*Relation{d.Relations, d.Config} {
		for _, r := range list {
			d.byOID[r.OID] = r
			d.byName[r.Name()] = r
		}
	}
}

// Sequence is a sequence of the application.
type Sequence struct {
	OID         uint32
	Schema, Rel string
	Owner       uint32 // table whose column owns it, 0 for none
	OwnerColumn string
	Identity    bool // it belongs to an identity column
	Type        string
	Start       int64
	Increment   int64
	Min, Max    int64
	Cache       int64
	Cycle       bool
	Extension   string // extension whose configuration it is, "" for none
}

func (s Sequence) Name() pg.Name { return pg.Name{Schema: s.Schema, Name: s.Rel} }

// Extension is an installed extension and the relations that it owns.
type Extension struct {
	OID                   uint32
	Name, Version, Schema string
	Members               []Member
}

// Member is a table, sequence, view or index of an extension.
type Member struct {
	OID       uint32
	Name      pg.Name
	Kind      byte   // pg_class.relkind
	Config    bool   // the extension marked it as configuration, so its rows belong to the user
	Condition string // WHERE clause that picks the user's rows, "" for all
}

// ForeignKey is a constraint between two tables.
type ForeignKey struct {
	OID                 uint32
	Name                string
	Table, Referenced   uint32 // oids
	Columns, RefColumns []string
	Inherited           uint32 // constraint of the partitioned parent that this one came from, 0 for none
	Validated           bool
	Deferrable          bool
	Deferred            bool     // initially
	Full                bool     // MATCH FULL
	Operators           []string // OPERATOR(schema.=) between a referenced column and its referencing one, in the columns' order
	Definition          string   // FOREIGN KEY (…) REFERENCES …
}

// Trigger is a trigger of the application; those that implement constraints are not listed.
type Trigger struct {
	OID        uint32
	Table      uint32
	Name       string
	Enabled    byte // pg_trigger.tgenabled: O, D, R or A
	Constraint bool
	Inherited  bool // it is the copy, on a partition, of a parent's trigger
}

// Rule is a rewrite rule that is not the body of a view.
type Rule struct {
	OID     uint32
	Table   uint32
	Name    string
	Enabled byte
	Event   byte // pg_rewrite.ev_type: 1 SELECT, 2 UPDATE, 3 INSERT, 4 DELETE
	Instead bool
}

// MatView is a materialised view.
type MatView struct {
	OID         uint32
	Schema, Rel string
	Populated   bool
	Columns     []string // in attnum order
}

func (m MatView) Name() pg.Name { return pg.Name{Schema: m.Schema, Name: m.Rel} }

// Values of pg_class that callers ask for.
const (
	KindTable       = 'r'
	KindPartitioned = 'p'

	Permanent = 'p'
	Unlogged  = 'u'

	IdentityDefault = 'd' // replica identity: the primary key
	IdentityNothing = 'n'
	IdentityFull    = 'f'
	IdentityIndex   = 'i'
)

// Values of pg_attribute that callers ask for.
const (
	IdentityAlways    = 'a'
	IdentityByDefault = 'd'
	GeneratedStored   = 's'
	GeneratedVirtual  = 'v'
)

// Relation is a table, partitioned or not.
type Relation struct {
	OID             uint32
	Schema, Rel     string
	Kind            byte // KindTable or KindPartitioned
	Persistence     byte
	Storage         Storage
	Partition       bool   // it is a partition of Parent
	Parent          uint32 // partitioned table that it belongs to, 0 for none
	Strategy        byte   // of a partitioned table: ByHash, ByList or ByRange
	PartitionKeys   []PartitionKey
	Inherits        []uint32 // parents by INHERITS, in order; not the Parent of a partition
	Children        bool     // other tables inherit from it or are its partitions
	Columns         []Column // in attnum order, without dropped ones
	ReplicaIdentity byte
	PrimaryKey      []string      // columns in the key's order, nil for none
	Identity        []string      // columns that identify a row for logical replication; nil where none do
	Unique          []UniqueIndex // all valid unique indexes, the primary key's included
	Pages           int64         // blocks of the main fork now
	Bytes           int64         // of the main fork now
	Rows            float64       // pg_class.reltuples: an estimate, -1 for unknown
	RowSecurity     RowSecurity
	Configuration   Configuration // zero, except for those of Database.Config
	BinarySafe      bool          // every column that COPY moves may travel in binary
	BinaryUnsafe    []string      // names of the columns that may not
}

// Storage is where a table keeps its rows, and in what form.
type Storage struct {
	Tablespace   string // "" for the database's own
	AccessMethod string // "" for a partitioned table
	FileNode     uint32 // pg_relation_filenode, 0 for a partitioned table
}

// RowSecurity says whether policies decide which rows a role sees.
type RowSecurity struct {
	Enabled bool
	Forced  bool // for the table's owner as well
}

// Configuration says whose configuration a table holds, and which of its rows users made.
type Configuration struct {
	Extension string // "" where the table holds none
	Condition string // "WHERE …" that finds the users' rows, "" for all of them
}

func (r *Relation) Name() pg.Name { return pg.Name{Schema: r.Schema, Name: r.Rel} }

// CopyColumns returns the names of the columns that COPY moves: all but the
// generated ones, in attnum order.
func (r *Relation) CopyColumns() []string {
	return lists.Pick(r.Columns, func(c Column) (string, bool) { return c.Name, c.Generated == 0 })
}

// Column returns the column of this name, nil if there is none.
func (r *Relation) Column(name string) *Column {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return &r.Columns[i]
		}
	}
	return nil
}

// Column is a column of a table.
type Column struct {
	Number    int16 // attnum
	Name      string
	TypeOID   uint32
	TypeName  pg.Name // pg_type's own, without modifier: pg_catalog.varchar
	Type      string  // formatted, with modifier: character varying(20)
	TypeMod   int32
	NotNull   bool
	Identity  byte // 0, IdentityAlways or IdentityByDefault
	Generated byte // 0, GeneratedStored or GeneratedVirtual
	Default   bool // it has a default
}

// UniqueIndex is a unique index, or the index of a unique constraint.
type UniqueIndex struct {
	OID              uint32
	Name             string
	Columns          []string // of the key; nil where an expression is in it
	Primary          bool
	Partial          bool
	Immediate        bool // not deferrable
	ReplicaIdentity  bool
	NullsNotDistinct bool
}

// Names of Crossfade's own objects on the source, which belong to no application.
const (
	OwnSchema  = "crossfade"
	OwnTrigger = "zz_crossfade_fence"
)
