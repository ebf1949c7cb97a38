package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk is where the target keeps the table item. It has few megabytes, and
// can be filled up.
type smallDisk struct {
	r    *replica
	file string // takes what space is left; "" where nothing could be mounted
}

// smallDiskSize in bytes is enough for what the test writes.
const smallDiskSize = "size=16m"

// moveToSmallDisk puts item on a small tmpfs, as a tablespace. Mounting takes
// more than every user may do; without it, a trigger on the target raises what a
// full disk does.
func (r *replica) moveToSmallDisk() *smallDisk {
	r.t.Helper()
	dir := filepath.Join(r.target.Dir, "small")
	require.NoError(r.t, os.Mkdir(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, smallDiskSize); err != nil {
		r.t.Logf("no tmpfs (%v): a trigger stands for the full disk", err)
		r.onTarget(`CREATE TABLE disk (is_full boolean); INSERT INTO disk VALUES (false);
			CREATE FUNCTION extend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF (SELECT is_full FROM public.disk) THEN
					RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
				END IF;
				RETURN new;
			END $$;
			CREATE TRIGGER extend BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION extend();
			ALTER TABLE item ENABLE ALWAYS TRIGGER extend`)
		return &smallDisk{r: r}
	}
	// a shell that sees its input end: also when this process is killed
	unmount := exec.Command("/bin/sh", "-c", `trap '' INT TERM; cat >/dev/null; umount -l "$1"`, "unmount", dir)
	unmount.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	input, err := unmount.StdinPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, unmount.Start())
	r.t.Cleanup(func() {
		input.Close()
		require.NoError(r.t, unmount.Wait())
	})

	owner, err := os.Stat(r.target.DataDir)
	require.NoError(r.t, err)
	id := owner.Sys().(*syscall.Stat_t)
	require.NoError(r.t, os.Chown(dir, int(id.Uid), int(id.Gid)))
	r.onTarget("CREATE TABLESPACE small LOCATION '" + dir + "'")
	r.onTarget("ALTER TABLE item SET TABLESPACE small")
	r.onTarget("ALTER INDEX item_pkey SET TABLESPACE small")
	return &smallDisk{r: r, file: filepath.Join(dir, "rest")}
}

// fill leaves no space.
func (d *smallDisk) fill() {
	d.r.t.Helper()
	if d.file == "" {
		d.r.onTarget("UPDATE disk SET is_full = true")
		return
	}
	f, err := os.Create(d.file)
	require.NoError(d.r.t, err)
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	require.ErrorIs(d.r.t, err, syscall.ENOSPC)
}

// free gives the space back.
func (d *smallDisk) free() {
	d.r.t.Helper()
	if d.file == "" {
		d.r.onTarget("UPDATE disk SET is_full = false")
		return
	}
	require.NoError(d.r.t, os.Remove(d.file))
}

// FAULTS: disk full on target: retried with back-off; nothing becomes a dead
// letter, though the subscription would have them; goes on when there is space.
func TestFaultTargetDiskFull(t *testing.T) {
	r := startReplica(t)
	r.onBoth(faultTables)
	r.onSource(workFunction)
	disk := r.moveToSmallDisk()
	r.add("default", "item")
	r.addKeyless("movement")
	r.onSource("SELECT courier.create_subscription($1, $2, '{default,log}', copy_data => false, options => $3)",
		subscription, targetNode, `{"on_error": "dead_letter"}`)
	courier := r.startSidecar()
	r.onSource("SELECT work(0)")
	r.wait()
	h := r.startHistory(subscription)
	h.waitFor("streaming")

	work := r.startPace(appDatabase, 20*time.Millisecond, "SELECT work($1)", 1)
	disk.fill()
	for range 3 { // it goes on trying
		h.waitFor("retrying")
		status := r.status()
		require.Equal(t, "53100", status["last_error_sqlstate"], "%v", status)
		r.source.Eventually(t, appDatabase, "SELECT next_retry_at > '"+
			status["next_retry_at"].(time.Time).Format(time.RFC3339Nano)+"' FROM courier.subscription_status", "t", patience)
	}
	disk.free()
	h.waitFor("streaming")
	work.stop()
	r.wait()
	r.requireEqual("item", "movement")
	h.finish()
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM courier.dead_letter"))
	courier.stop()
}
