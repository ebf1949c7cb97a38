package compare

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/session"
)

const (
	// resendRows is how many rows one statement ships again: it locks them.
	resendRows = 500
	// mostWaiting bounds the keys that wait for the end of the comparison.
	mostWaiting = 100000
)

// repairFull repairs early what is too much to keep.
func (c *comparison) repairFull(ctx context.Context, t *table) error {
	waiting := len(t.resend) + len(t.replace)
	if waiting < mostWaiting && (c.InTransaction || waiting < resendRows) {
		return nil
	}
	return c.repairRest(ctx, t)
}

// repairRest ships the rows again that were found, or says how.
func (c *comparison) repairRest(ctx context.Context, t *table) error {
	if err := c.repairKeys(ctx, t, t.replace, true); err != nil {
		return err
	}
	err := c.repairKeys(ctx, t, t.resend, false)
	t.replace, t.resend = nil, nil
	return err
}

func (c *comparison) repairKeys(ctx context.Context, t *table, keys [][]string, replace bool) error {
	for len(keys) > 0 {
		some := keysJSON(t.keys, keys[:min(len(keys), resendRows)])
		keys = keys[min(len(keys), resendRows):]
		if c.Repair == Print {
			option := ""
			if replace {
				option = ", replace => true"
			}
			t.answer.Statements = append(t.answer.Statements, fmt.Sprintf("SELECT courier.resend(%s, %s%s);", literal(t.answer.Name), literal(some), option))
			continue
		}
		sent, err := c.send(ctx, t, some, replace)
		if err != nil {
			return fmt.Errorf("ship rows of table %s again: %w", t.answer.Name, err)
		}
		t.answer.Resent += sent
	}
	return nil
}

// send queues rows.
func (c *comparison) send(ctx context.Context, t *table, keys string, replace bool) (int64, error) {
	text, _, err := session.Value(ctx, c.Session, "SELECT courier.resend($1::pg_catalog.oid::pg_catalog.regclass, $2::pg_catalog.jsonb, $3::pg_catalog.bool)",
		strconv.FormatUint(uint64(t.OID), 10), keys, strconv.FormatBool(replace))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}
