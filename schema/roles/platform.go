package roles

import "slices"

// PlatformRoles belong to hosting platforms and exist nowhere else. What is
// granted to them, or set for them, means nothing on the target.
var PlatformRoles = []string{
	"rdsadmin", "rds_superuser", "rds_replication", "rds_iam", "rds_password", "rds_ad", "rdsrepladmin", "rds_reserved",
	"cloudsqladmin", "cloudsqlsuperuser", "cloudsqlreplica", "cloudsqlagent", "alloydbadmin", "alloydbsuperuser",
	"azuresu", "azure_superuser", "azure_pg_admin", "supabase_admin", "supabase_storage_admin", "supabase_auth_admin",
	"cloud_admin", "zenith_admin", "neon_service",
}

// PlatformRole reports whether a role is a hosting platform's own.
func PlatformRole(name string) bool { return slices.Contains(PlatformRoles, name) }
