package main

// Debian's package makes a cluster "main" at its first installation and starts
// it at every boot. Nobody asked for that one, so a drop-in of
// createcluster.conf(5) says no while the package is configured. The
// directories are made with -p before the package brings them, and only an
// empty one is removed again.
const (
	dropInDir = "/etc/postgresql-common/createcluster.d"
	dropIn    = dropInDir + "/crossfade-install.conf"

	keepClusterOff = "mkdir -p " + dropInDir + " && { test -e " + dropIn + " || echo 'create_main_cluster = false' >" + dropIn + "; }"
	allowCluster   = "rm -f " + dropIn + " && { rmdir " + dropInDir + " 2>/dev/null || true; }"
)
