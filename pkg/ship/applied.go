package ship

import "time"

// Applied is what one unit brought to the node.
type Applied struct {
	Inserted, Updated, Deleted, Truncated, Events int64 // changes, as they were made

	Changes int           // all of them
	Bytes   int           // of statements sent
	Apply   time.Duration // from sending it to the node's answer
}
