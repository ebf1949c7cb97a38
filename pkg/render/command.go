package render

import (
	"strings"

	"github.com/pg-courier/pg_courier/pkg/change"
)

// ddlSettings hold for DDL besides those that the command brings along: it may
// take as long as it takes, and queries in it see what row security lets them.
var ddlSettings = []change.Setting{{Name: "row_security", Value: "on"}}

// Command appends a DDL command, made by the caller's transaction number tx, as
// one statement. It runs with the settings and the role it was made with, inside
// the surrounding transaction, and puts those back behind it: a change of
// session_user would be beyond that, and no command that the source accepts
// makes one. asLink leaves the role as it is.
//
// It is dynamic SQL in a DO block, so that whatever the text holds is one
// statement of the script and can't end the transaction.
func (s *Script) Command(c *change.Command, index, tx int, asLink bool) {
	s.Append("SELECT pg_catalog.set_config('statement_timeout', '0', true)")
	s.begin(Statement{Op: change.DDL, Tx: tx, Change: index})
	var names, values, earlier []string
	for _, setting := range append(append([]change.Setting(nil), ddlSettings...), c.Settings...) {
		names = append(names, quote(setting.Name))
		values = append(values, quote(setting.Value))
		earlier = append(earlier, "pg_catalog.current_setting("+quote(setting.Name)+")")
	}
	// All that the block says itself is read before a setting changes how.
	var b strings.Builder
	b.WriteString("DECLARE\n    command CONSTANT pg_catalog.text := " + quote(c.Text))
	b.WriteString(";\n    acting CONSTANT pg_catalog.text := ")
	if asLink {
		b.WriteString("pg_catalog.current_setting('role')")
	} else {
		b.WriteString(quote(c.Role))
	}
	b.WriteString(";\n    before CONSTANT pg_catalog.text := pg_catalog.current_setting('role')")
	b.WriteString(";\n    names CONSTANT pg_catalog.text[] := ARRAY[" + strings.Join(names, ", "))
	b.WriteString("];\n    wanted CONSTANT pg_catalog.text[] := ARRAY[" + strings.Join(values, ", "))
	b.WriteString("];\n    earlier CONSTANT pg_catalog.text[] := ARRAY[" + strings.Join(earlier, ", "))
	b.WriteString("];\n    i pg_catalog.int4;\nBEGIN\n")
	if !asLink {
		b.WriteString(requireRole)
	}
	b.WriteString(runCommand)
	s.write("DO LANGUAGE plpgsql ")
	s.text = appendLiteral(s.text, b.String())
}

// runCommand runs the command with its settings and its role, and puts those back
// that were there before.
const runCommand = `    FOR i IN 1 .. pg_catalog.cardinality(names) LOOP
        PERFORM pg_catalog.set_config(names[i], wanted[i], true);
    END LOOP;
    PERFORM pg_catalog.set_config('role', acting, true);
    EXECUTE command;
    PERFORM pg_catalog.set_config('role', before, true);
    FOR i IN 1 .. pg_catalog.cardinality(names) LOOP
        PERFORM pg_catalog.set_config(names[i], earlier[i], true);
    END LOOP;
END`

// requireRole makes sure that the link's role may act for the command's.
const requireRole = `    IF acting <> current_user THEN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = acting) THEN
            RAISE EXCEPTION 'role "%" ran the command on the source and does not exist on the node', acting
                USING ERRCODE = 'undefined_object',
                      HINT = pg_catalog.format('Create it on the node: CREATE ROLE %I; or let commands run as %I: subscription option "ddl_role": "link".', acting, current_user);
        ELSIF NOT pg_catalog.pg_has_role(current_user, acting, 'MEMBER') THEN
            RAISE EXCEPTION 'role "%" ran the command on the source, and role "%" can''t act for it on the node', acting, current_user
                USING ERRCODE = 'insufficient_privilege',
                      HINT = pg_catalog.format('On the node: GRANT %I TO %I; or let commands run as %2$I: subscription option "ddl_role": "link".', acting, current_user);
        END IF;
    END IF;
`

// quote writes a text as a literal.
func quote(text string) string { return string(appendLiteral(nil, text)) }
