// Package terminal makes texts that come from elsewhere fit to be shown to
// people. It is imported by whatever lays out tables and reports.
package terminal

import (
	"strings"
	"unicode"
)

// Plain makes one line of a text, without characters that command a terminal or
// change the direction of what follows.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
