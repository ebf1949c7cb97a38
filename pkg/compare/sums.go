package compare

import (
	"fmt"
	"math/big"
	"strconv"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// sums is what is known of a set of rows: how many they are, and two sums of
// their hashes, which are counted modulo 2^64.
type sums struct {
	rows   int64
	hashes [2]uint64
}

func (s *sums) add(o sums) {
	s.rows += o.rows
	for i := range s.hashes {
		s.hashes[i] += o.hashes[i]
	}
}

var modulus = new(big.Int).SetUint64(1<<64 - 1)

// parseSums reads a count and two sums of int8, which are numeric and NULL for no
// rows.
func parseSums(row session.Row) (s sums, err error) {
	if s.rows, err = strconv.ParseInt(string(row[0]), 10, 64); err != nil {
		return s, fmt.Errorf("read sums: %w", err)
	}
	for i := range s.hashes {
		if row[1+i] == nil {
			continue
		}
		sum, ok := new(big.Int).SetString(string(row[1+i]), 10)
		if !ok {
			return s, fmt.Errorf("read sums: %q is not a whole number", row[1+i])
		}
		s.hashes[i] = sum.And(sum, modulus).Uint64()
	}
	return s, nil
}
