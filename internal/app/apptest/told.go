package apptest

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

// ToldAlone requires that an error tells something once, and returns its remedy.
func ToldAlone(t *testing.T, err error, says string) (remedy string) {
	t.Helper()
	require.ErrorContains(t, err, says)
	require.Equal(t, 1, strings.Count(err.Error(), says), err)
	var e *control.Error
	if errors.As(err, &e) {
		return e.Remedy
	}
	return err.Error()
}
