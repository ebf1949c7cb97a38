package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// transactionsPerSegment is how many transactions a file of pg_xact tells of:
// 32 pages of 8 kB, two bits each.
const transactionsPerSegment = 32 * 8192 * 4

// SetNextXID makes the cluster, which must be stopped in order, go on with a
// transaction number, epoch included. What it holds has to be frozen, and no
// VACUUM may run afterwards: it would find that template0 is older than 2^31
// transactions.
func (c *Cluster) SetNextXID(ctx context.Context, next uint64) error {
	if c.Running() {
		return errors.New("set the next transaction number: the cluster is running")
	}
	epoch, xid := next>>32, next&0xFFFFFFFF
	err := run(ctx, c.Dir, c.installation.Program("pg_resetwal"), "-f", "-D", c.DataDir,
		"-e", strconv.FormatUint(epoch, 10), "-x", strconv.FormatUint(xid, 10), "-u", strconv.FormatUint(xid, 10))
	if err != nil {
		return err
	}
	segment := filepath.Join(c.DataDir, "pg_xact", fmt.Sprintf("%04X", xid/transactionsPerSegment))
	if err := os.WriteFile(segment, make([]byte, transactionsPerSegment/4), 0o600); err != nil {
		return fmt.Errorf("write the state of transactions: %w", err)
	}
	cred, err := credential()
	if err != nil || cred == nil {
		return err
	}
	if err := os.Chown(segment, int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("give the state of transactions to %s: %w", serverUser, err)
	}
	return nil
}
