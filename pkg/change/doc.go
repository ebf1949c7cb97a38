// Package change is the vocabulary of pg_courier: changes, the relations they
// belong to, the transactions they came in, and positions in the stream of
// transactions. It does no I/O and imports only the standard library, so every
// other package may import it.
package change
