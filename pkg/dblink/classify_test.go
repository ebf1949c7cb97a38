package dblink

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/session"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	states := map[Class][]string{
		Unknown:   {"08000", "08003", "08006", "57P01", "57P02", "57P03", StatePosition},
		Transient: {"40001", "40P01", "55P03", "53100", "53200", "53300", "57014", "25006", "58030", "XX000"},
		Data:      {"23505", "23503", "23514", "23502", "23P01", "22003", "22P02", "44000", StateMissing},
		Schema:    {"42P01", "42703", "42804", "42501", "3F000", "0A000"},
		Fatal:     {"28P01", "28000", "55000", "P0001"},
	}
	for class, list := range states {
		for _, state := range list {
			err := fmt.Errorf("apply: %w", &session.Error{SQLState: state})
			require.Equal(t, class, Classify(err), state)
		}
	}
	require.Equal(t, Unknown, Classify(errors.New("unexpected EOF")), "no SQLSTATE: the connection broke")
	require.Equal(t, Fatal, Classify(fmt.Errorf("wait: %w", context.Canceled)))
}

func TestRowsAreTakenOutOfErrors(t *testing.T) {
	t.Parallel()
	for state, message := range map[string]string{"23514": "constraint c", "22P02": "a value does not fit the type of its column"} {
		e := withoutRows(&session.Error{SQLState: state, Message: "constraint c",
			Detail: "Failing row contains (secret).", Context: "secret", Hint: "h"})
		require.Equal(t, &session.Error{SQLState: state, Message: message, Hint: "h"}, e)
	}
	kept := session.Error{SQLState: "42P01", Message: "m", Detail: "d", Context: "c"}
	e := kept
	require.Equal(t, &kept, withoutRows(&e))
}
