package compare

import (
	"context"
	"fmt"
)

// hashing is how the text of a row becomes two numbers of 64 bits.
//
// PostgreSQL's own hash is fast, and the same on every version. It depends on
// the processor's byte order, and on the encoding of the text; where the two
// servers do not agree on it, MD5 of the text in UTF-8 takes its place, which
// costs about as much again as building the text.
type hashing struct{ portable bool }

// sample is hashed on both sides to see whether they agree. It is longer than
// what the function takes at a time.
const sample = "courier compares rows by their hash: 0123456789 abcdefghijklmnopqrstuvwxyz"

func (c *comparison) chooseHash(ctx context.Context) (hashing, error) {
	question := `SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('server_encoding'),
		pg_catalog.hashtextextended(` + literal(sample) + ` COLLATE "C", 0), pg_catalog.hashtextextended(` + literal(sample) + ` COLLATE "C", 1))`
	var agreed string
	for i, p := range []place{c.source, c.target} {
		s := p.statement()
		s.WriteString(question)
		rows, err := ask(ctx, p, s, 1)
		if err != nil {
			return hashing{}, fmt.Errorf("agree on a hash function: %w", err)
		}
		if i == 1 && agreed != string(rows[0][0]) {
			return hashing{portable: true}, nil
		}
		agreed = string(rows[0][0])
	}
	return hashing{}, nil
}

// of gives the SQL of the first or second number of a text.
func (h hashing) of(text string, number int) string {
	if !h.portable {
		return fmt.Sprintf(`pg_catalog.hashtextextended(%s COLLATE "C", %d)`, text, number)
	}
	return fmt.Sprintf(`('x' || pg_catalog.substr(pg_catalog.md5(pg_catalog.convert_to(%s, 'UTF8')), %d, 16))::pg_catalog.bit(64)::pg_catalog.int8`,
		text, 1+16*number)
}
