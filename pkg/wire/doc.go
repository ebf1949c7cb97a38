// Package wire turns queue chunks into changes.
//
// A chunk is a run of frames: a big-endian uint32 length, then one message of
// that length. A frame may continue in the next chunks of its transaction; its
// length word is never split. Messages are pgoutput's (protocol version 1), plus
// 'V', an upsert laid out as an insert, 'F', the results of row filters before a
// message of another kind, and 'Q', a DDL command. The relation id of a message
// names a shape, looked up through Shapes.
//
// Values alias the chunk they came from: a chunk must stay unmodified as long as
// a change decoded from it is in use. The packages that read a source (queue,
// wal) import wire.
package wire
