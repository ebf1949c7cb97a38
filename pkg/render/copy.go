package render

import "strings"

// binaryTypes are the types of the source, by OID, whose binary format is the same on
// every server, and does not depend on an encoding or on what OIDs other things have;
// with the name of the same type on the target.
var binaryTypes = map[uint32]string{
	16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text", 114: "json",
	650: "cidr", 700: "real", 701: "double precision", 829: "macaddr", 869: "inet", 1042: "bpchar",
	1043: "character varying", 1082: "date", 1083: "time without time zone", 1114: "timestamp without time zone",
	1184: "timestamp with time zone", 1186: "interval", 1266: "time with time zone", 1700: "numeric", 2950: "uuid",
	3802: "jsonb",
}

// Copy is the COPY that takes the rows whose columns Rows names, in their order: in
// the binary format, which costs the target less, if both sides have the same types.
func (t *Target) Copy(r *Rows) string {
	format := ""
	if t.binary(r) {
		format = " WITH (FORMAT binary)"
	}
	return "COPY " + string(t.name) + " (" + strings.Join(t.copied(r), ", ") + ") FROM STDIN" + format
}

// AfterCopy is to be run behind that COPY in its transaction, or "": values in the
// binary format are others in a column whose type has been altered since Compile, and
// nobody would see it. It fails with SQLSTATE 22P03.
func (t *Target) AfterCopy(r *Rows) string {
	if !t.binary(r) {
		return ""
	}
	columns := t.copied(r)
	types := make([]string, len(columns))
	for i, source := range r.Columns {
		columns[i], types[i] = quote(columns[i]), quote(t.columns[t.bySource[source]].typ)
	}
	return "SELECT courier_target.check_types(" + quote(string(t.name)) + "::pg_catalog.regclass, ARRAY[" +
		strings.Join(columns, ", ") + "], ARRAY[" + strings.Join(types, ", ") + "]);\n"
}

func (t *Target) binary(r *Rows) bool {
	for _, source := range r.Columns {
		same, known := binaryTypes[t.relation.Columns[source].TypeOID]
		if !known || same != t.columns[t.bySource[source]].typ {
			return false
		}
	}
	return !t.table.View
}

// copied are the names of the target's columns, quoted.
func (t *Target) copied(r *Rows) []string {
	names := make([]string, len(r.Columns))
	for i, source := range r.Columns {
		names[i] = string(t.columns[t.bySource[source]].name)
	}
	return names
}
