package wire

import "fmt"

// MalformedError says that a chunk or a definition is not what the format
// demands. It names the place, never the contents.
type MalformedError struct {
	Message byte   // message type, 0 when not known
	Reason  string // lower case, no full stop
}

// Error implements error.
func (e *MalformedError) Error() string {
	if e.Message == 0 {
		return "decode chunk: " + e.Reason
	}
	if e.Message < ' ' || e.Message > '~' {
		return fmt.Sprintf("decode message 0x%02X: %s", e.Message, e.Reason)
	}
	return fmt.Sprintf("decode message %c: %s", e.Message, e.Reason)
}

// Hint says what a person can do about it.
func (e *MalformedError) Hint() string {
	return "The queue holds data this version cannot read; check that the extension and the shipper are of one version."
}

func malformed(message byte, reason string) error {
	return &MalformedError{Message: message, Reason: reason}
}
