package neonlike

import (
	"maps"

	"crossfade/internal/lab/pgcluster"
)

// Names that Neon gives.
const (
	// Superuser is the bootstrap superuser, which customers cannot use.
	Superuser = "cloud_admin"
	// PrivilegedRole is what roles made by the console are members of.
	PrivilegedRole = "neon_superuser"
	// DefaultOwner and DefaultDatabase are what a new project has.
	DefaultOwner    = "neondb_owner"
	DefaultDatabase = "neondb"
)

// settings are those of the smallest compute, as far as a client can notice
// them. shared_buffers stays small: many clusters share a machine of tests.
var settings = map[string]string{
	"wal_level":                           "replica", // logical only after the project opted in
	"fsync":                               "off",
	"max_connections":                     "104",
	"superuser_reserved_connections":      "7",
	"max_replication_slots":               "10",
	"max_wal_senders":                     "10",
	"wal_sender_timeout":                  "'10s'",
	"idle_in_transaction_session_timeout": "'5min'",
	"max_wal_size":                        "'1GB'",
	"hot_standby":                         "off",
	"max_worker_processes":                "12",
	"max_parallel_workers":                "8",
	"restart_after_crash":                 "off",
	"password_encryption":                 "'scram-sha-256'",
	"log_error_verbosity":                 "terse",
	"log_min_error_statement":             "panic",
	"neon.endpoint_id":                    "'ep-local-likeness-000001'",
	"neon.project_id":                     "'local-likeness-000001'",
	"neon.branch_id":                      "'br-local-likeness-000001'",
	"neon.privileged_role_name":           "'" + PrivilegedRole + "'",
}

// Config returns the configuration of a cluster that resembles a compute.
// logical says that the project opted in to logical replication, which the way
// back from Neon needs. The result is the caller's to change.
func Config(b pgcluster.Binaries, logical bool) pgcluster.Config {
	s := maps.Clone(settings)
	if logical {
		s["wal_level"] = "logical"
	}
	if b.Major >= 14 {
		s["client_connection_check_interval"] = "'60s'"
	}
	return pgcluster.Config{
		Binaries:  b,
		Superuser: Superuser,
		Settings:  s,
		HBA:       []string{"local all all trust"}, // for the front; nobody else can reach the socket's directory
		InitArgs:  initArgs(b.Major),
		Adapt:     trust,
	}
}

// initArgs gives the cluster Neon's collation: byte order, from the C library
// before PostgreSQL 17 and built in from then on.
func initArgs(major int) []string {
	args := []string{"--locale=C.UTF-8"}
	switch {
	case major >= 17:
		args = append(args, "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
	case major >= 15:
		args = append(args, "--locale-provider=libc")
	}
	return args
}
