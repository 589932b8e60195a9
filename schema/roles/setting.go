package roles

import (
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// listSettings are the settings whose stored value is a list of quoted names
// (GUC_LIST_QUOTE, PostgreSQL's src/bin/pg_dump/dumputils.c, variable_is_guc_list_quote).
var listSettings = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"}

// SettingValue writes the value of pg_db_role_setting as ALTER … SET takes it.
func SettingValue(name, value string) string {
	if !slices.Contains(listSettings, strings.ToLower(name)) {
		return pg.QuoteLiteral(value)
	}
	items := lists.Map(splitList(value), pg.QuoteLiteral)
	if len(items) == 0 {
		return "''"
	}
	return strings.Join(items, ", ")
}

// splitList splits a list of names at commas outside of double quotes.
func splitList(value string) []string {
	var out []string
	for i := 0; i < len(value); {
		for i < len(value) && (value[i] == ' ' || value[i] == ',' || value[i] == '\t') {
			i++
		}
		if i == len(value) {
			break
		}
		var b strings.Builder
		quoted := value[i] == '"'
		if quoted {
			for i++; i < len(value); i++ {
				if value[i] == '"' {
					if i+1 == len(value) || value[i+1] != '"' {
						i++
						break
					}
					i++
				}
				b.WriteByte(value[i])
			}
		} else {
			for ; i < len(value) && value[i] != ','; i++ {
				b.WriteByte(value[i])
			}
		}
		item := b.String()
		if !quoted {
			item = strings.TrimSpace(item)
		}
		out = append(out, item)
	}
	return out
}
