// Package doctor examines source databases and the nodes they send to: before
// the first subscription, and when something is wrong. It changes nothing: its
// sessions are read-only on both sides.
//
// A check is one question with an answer of any number of findings. A finding
// has a severity, says what was found and where, why that matters, and what to
// do; a check that finds nothing is recorded as ok. Every check, its severities
// and its remedies are in docs/doctor.md.
//
// A database is examined through one session; each of its nodes through another
// one, over dblink, as a shipper reaches it, and all of them at once. So a node
// that does not answer costs one finding and some seconds, and holds up no other
// check. A check that meets an error says so as a finding of its own.
//
// What is judged by rules that need no database to show them (TLS, types,
// clocks) is in functions of plain values; the rest is in SQL, next to the
// finding that it leads to.
//
// It is imported by sidecar.
package doctor
