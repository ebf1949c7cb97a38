package compare

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.Cleaning(m))
}
