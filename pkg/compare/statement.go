package compare

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// statement is a query under construction. On the source what varies from call
// to call goes in parameters, so that plans are kept; a link to a node has none,
// so there it is written into the text.
type statement struct {
	strings.Builder
	args     []any
	literals bool
}

// value gives the SQL of a text as a value of a type.
func (s *statement) value(text, typ string) string {
	if s.literals {
		return literal(text) + "::" + typ
	}
	s.args = append(s.args, text)
	return "$" + strconv.Itoa(len(s.args)) + "::" + typ
}

// literal quotes a text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// identifier quotes a name for SQL.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// textArray writes a text[] in PostgreSQL's form; byte by byte, since texts are
// in the database's encoding.
func textArray(values []string) string {
	b := []byte{'{'}
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for j := range len(value) {
			if value[j] == '"' || value[j] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, value[j])
		}
		b = append(b, '"')
	}
	return string(append(b, '}'))
}

// place is a side of the comparison that runs statements.
type place interface {
	statement() *statement
	// send starts a statement where two sides can work at the same time, and
	// receive gives its rows.
	send(ctx context.Context, s *statement) error
	receive(ctx context.Context, s *statement, columns int) ([]session.Row, error)
}

// ask runs a statement.
func ask(ctx context.Context, p place, s *statement, columns int) ([]session.Row, error) {
	if err := p.send(ctx, s); err != nil {
		return nil, err
	}
	return p.receive(ctx, s, columns)
}

// source is the local database.
type source struct{ session session.Session }

func (*source) statement() *statement { return &statement{} }

func (*source) send(context.Context, *statement) error { return nil }

func (p *source) receive(ctx context.Context, s *statement, _ int) ([]session.Row, error) {
	rows, err := p.session.Query(ctx, s.String(), s.args...)
	if err != nil {
		return nil, fmt.Errorf("read the source: %w", err)
	}
	return rows, nil
}

// target is the node.
type target struct {
	link *dblink.Link
	node string
}

func (*target) statement() *statement { return &statement{literals: true} }

func (p *target) send(ctx context.Context, s *statement) error {
	return p.link.Send(ctx, []byte(s.String()))
}

func (p *target) receive(ctx context.Context, _ *statement, columns int) ([]session.Row, error) {
	return p.link.Rows(ctx, columns)
}
