// Package copydata copies the rows that tables hold already to a node, in chunks.
//
// A chunk is a range of a table's pages. Its rows and the note that it is done
// (courier_target.copied_chunk) are one transaction on the target, so a copy that
// is interrupted, however, goes on behind the chunks that are noted; those in
// flight are lost, and copied again.
//
// All chunks are read in one snapshot of the source, as long as it lasts, and the
// subscription's position on the target is that snapshot: each chunk's transaction
// makes sure of it (courier_target.hold_position) and keeps it so until it ends. The
// snapshot is given up every few seconds, changes are shipped up to the next one,
// and copying goes on in that. While it does,
//
//	a table that is partly copied holds, on the target, some of the rows that it has
//	on the source at the position, and each of them as it is there.
//
// That is so after each chunk, and it stays so when changes are applied by key:
// inserts and updates write the row whether the target has it or not, deletes delete
// it if it is there. An update that does not carry the whole row (values out of line
// that it left alone) is applied if the row is there; if not, the row is still to
// come, but perhaps from pages that are done, where the update has moved it. So its
// key is noted (courier_target.missed_row), and the row copied in the next snapshot.
// So unique constraints hold on the target whenever they do on the source, and the
// last chunk leaves the table equal to the source's at the position: from then on it
// is shipped like any other. Before it counts as copied its rows are counted on both
// sides, at that position.
//
// A table without a key can't be changed by key: see pkg/ship/copy_whole.go.
//
// Chunks are read and sent by lanes, each a link to the node, and two streams, one of
// which sends rows while the chunk on the other is committed. Where sessions
// can be opened, in the sidecar, every lane has one of its own and a goroutine. In a
// backend there is one session; it reads for one lane while the node works for the
// others. The rows never pass through this process: the source's server writes them
// into the statement or the COPY and sends it (ext/pg/copy_send.c, stream_copy.c).
//
// Only pkg/ship imports it; it decides what is copied, and when.
package copydata
