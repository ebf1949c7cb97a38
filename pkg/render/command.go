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
	var b strings.Builder
	settings := append(append([]change.Setting(nil), ddlSettings...), c.Settings...)
	b.WriteString("DECLARE\n    earlier CONSTANT pg_catalog.text[] := ARRAY[pg_catalog.current_setting('role')")
	for _, setting := range settings {
		b.WriteString(", pg_catalog.current_setting(" + quote(setting.Name) + ")")
	}
	b.WriteString("];\nBEGIN\n")
	if !asLink { // while search_path is our own
		b.WriteString(strings.ReplaceAll(requireRole, "$role", quote(c.Role)))
	}
	for _, setting := range settings {
		b.WriteString("    PERFORM pg_catalog.set_config(" + quote(setting.Name) + ", " + quote(setting.Value) + ", true);\n")
	}
	if !asLink {
		b.WriteString("    PERFORM pg_catalog.set_config('role', " + quote(c.Role) + ", true);\n")
	}
	b.WriteString("    EXECUTE " + quote(c.Text) + ";\n")
	b.WriteString("    PERFORM pg_catalog.set_config('role', earlier[1], true);\n")
	for i, setting := range settings {
		b.WriteString("    PERFORM pg_catalog.set_config(" + quote(setting.Name) + ", earlier[")
		b.Write(appendInt(nil, i+2))
		b.WriteString("], true);\n")
	}
	b.WriteString("END")
	s.write("DO LANGUAGE plpgsql ")
	s.text = appendLiteral(s.text, b.String())
}

// requireRole makes sure that the link's role may act for the command's.
const requireRole = `    IF $role <> current_user THEN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $role) THEN
            RAISE EXCEPTION 'role "%" ran the command on the source and does not exist on the node', $role
                USING ERRCODE = 'undefined_object',
                      HINT = pg_catalog.format('Create it on the node: CREATE ROLE %I; or let commands run as %I: subscription option "ddl_role": "link".', $role, current_user);
        ELSIF NOT pg_catalog.pg_has_role(current_user, $role, 'MEMBER') THEN
            RAISE EXCEPTION 'role "%" ran the command on the source, and role "%" can''t act for it on the node', $role, current_user
                USING ERRCODE = 'insufficient_privilege',
                      HINT = pg_catalog.format('On the node: GRANT %I TO %I; or let commands run as %2$I: subscription option "ddl_role": "link".', $role, current_user);
        END IF;
    END IF;
`

// quote writes a text as a literal.
func quote(text string) string { return string(appendLiteral(nil, text)) }
