package ship

import "time"

// Applied is what one or several transactions on the target have done. What is
// counted for courier.stat_subscription and courier.stat_table is the same.
type Applied struct {
	Shipped   int64   // changes, events, commands and rows copied
	Changes           // by kind, as they were made: before folding
	Captured  Changes // read from the queue for the subscription's tables
	Filtered  int64   // of those, not sent
	Folded    int64   // row changes that needed no row of their own
	Conflicts Conflicts
	Events    int64
	Commands  int64         // DDL
	Copied    int64         // existing rows
	Batches   int64         // transactions; a copy, or what was refused, is none
	Bytes     int64         // of statements sent
	Read      time.Duration // the queue
	Render    time.Duration // decoding, folding and writing as statements
	Apply     time.Duration // from the first piece sent to the commit
}

// applied sums up over tables.
func (c *counts) applied() Applied {
	a := Applied{Shipped: c.changes, Events: c.events, Commands: c.commands, Batches: c.batches, Bytes: c.bytes,
		Read: c.read, Render: c.render, Apply: c.apply}
	for _, t := range c.tables {
		a.Changes.merge(t.shipped)
		a.Captured.merge(t.captured)
		a.Filtered += t.filtered
		a.Folded += t.folded
		a.Conflicts.merge(t.conflicts)
		a.Copied += t.copied
	}
	return a
}
