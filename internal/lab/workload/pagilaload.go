package workload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"crossfade/internal/base/pg"
)

// ownerLines are the schema file's statements that only a superuser may run.
var ownerLines = regexp.MustCompile(`(?m)^ALTER [^\n]* OWNER TO postgres;\n`)

// LoadPagila runs the files of the sample database in dir with psql. The role of
// dsn becomes the owner of everything; it needs CREATE on the database and
// nothing else.
func LoadPagila(ctx context.Context, psql, dir string, dsn pg.DSN) error {
	schema, err := os.ReadFile(filepath.Join(dir, "pagila-schema.sql"))
	if err != nil {
		return fmt.Errorf("read pagila: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "pagila-data.sql"))
	if err != nil {
		return fmt.Errorf("read pagila: %w", err)
	}
	conninfo, env := dsn.LibpqEnv()
	cmd := exec.CommandContext(ctx, psql, "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output="+os.DevNull, "--dbname="+conninfo)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = bytes.NewReader(bytes.Join([][]byte{
		[]byte("CREATE SCHEMA pagila;\n"), ownerLines.ReplaceAll(schema, nil), data, []byte("\nANALYZE;\n"),
	}, nil))
	said := &lastWords{}
	cmd.Stderr = said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("load pagila: %w: %s", err, said)
	}
	return nil
}
