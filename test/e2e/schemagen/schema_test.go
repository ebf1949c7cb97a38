package schemagen

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var everything = Features{Version: 150000, ICU: true, Extensions: map[string]bool{"hstore": true, "citext": true, "ltree": true}}

// A failure is shown by its seed: it has to give the same schema again.
func TestSameSeedSameSchema(t *testing.T) {
	for seed := range uint64(50) {
		require.Equal(t, New(seed, everything), New(seed, everything), "seed %d", seed)
	}
	require.NotEqual(t, New(1, everything), New(2, everything))
}

// What the streams are about is in as many schemas as a run has by default.
func TestWhatSchemasHold(t *testing.T) {
	holds := make(map[string]int)
	for seed := range uint64(200) {
		s := New(seed, everything)
		text := strings.Join(s.Here, ";\n") + strings.Join(s.Publish, ";\n")
		for _, step := range s.Steps {
			text += step.SQL + ";\n"
		}
		for _, word := range []string{"PARTITION BY RANGE", "PARTITION BY LIST", "PARTITION BY HASH", "ATTACH PARTITION", "STORED",
			"GENERATED ALWAYS AS IDENTITY", "REPLICA IDENTITY FULL", "REPLICA IDENTITY USING INDEX", "DEFERRABLE", "EXCLUDE", "REFERENCES",
			"INHERITS", "DROP COLUMN", "ADD COLUMN", "RENAME COLUMN", "RENAME TO", "TYPE bigint", "CREATE INDEX", "DROP TABLE",
			"row_filter =>", "columns =>", "CREATE TRIGGER", "MERGE", "COPY", "TRUNCATE", "ON CONFLICT (", "WITH gone", "CURRENT OF",
			"PREPARE TRANSACTION", "ROLLBACK TO", "SERIALIZABLE", "hstore", "citext", "= 99 WHERE", "enqueue_upsert"} {
			if strings.Contains(text, word) {
				holds[word]++
			} else {
				holds[word] += 0
			}
		}
	}
	for word, n := range holds {
		require.GreaterOrEqual(t, n, 3, "schemas of 200 that have %s", word)
	}
}
