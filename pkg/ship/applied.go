package ship

import "time"

// Applied is what a unit, one transaction on the target, has done.
type Applied struct {
	Inserted, Updated, Deleted, Truncated int64 // changes by kind, as they were made: before folding
	Events                                int64
	Commands                              int64         // DDL
	Changes                               int           // all of them
	Bytes                                 int           // of statements sent
	Apply                                 time.Duration // from the first piece sent to the commit
}

// applied sums up a unit.
func (u *unit) applied() Applied {
	a := Applied{Changes: u.shipped, Bytes: u.bytes, Apply: u.apply}
	for _, t := range u.counts {
		a.Inserted += t.inserted
		a.Updated += t.updated
		a.Deleted += t.deleted
		a.Truncated += t.truncated
	}
	a.Commands = int64(u.commands)
	a.Events = max(int64(a.Changes)-a.Inserted-a.Updated-a.Deleted-a.Truncated-a.Commands, 0)
	return a
}
