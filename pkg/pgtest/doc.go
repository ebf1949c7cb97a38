// Package pgtest runs real PostgreSQL clusters in temporary directories. It
// is imported by tests, by the demo and by the bench, never by anything that
// ships.
//
// A process that starts clusters has one root directory,
//
//	pgtest-XXXX/             mode 0711, so that the server's user gets through
//	    template/            what initdb made, once a process
//	    NAME-N/              a cluster: data/, log, the socket
//
// Every cluster is a copy of the template with a system identifier of its
// own. The server listens on 127.0.0.1, on a port the kernel chose, and on a
// Unix socket in its directory. It trusts every role on the socket, and the
// superuser on TCP; every other role needs its password on TCP (scram), and
// one such role, PasswordRole, is there from the start.
//
// PostgreSQL refuses to run as root, so for root everything that touches a
// data directory runs as the user postgres; for anyone else, as themselves.
//
// Without lets a server run from a copy of the installation that lacks programs.
//
// Nothing outlives the process. The kernel sends the postmaster SIGQUIT when
// the thread that started it dies (PR_SET_PDEATHSIG), and a watchdog, a small
// shell that sees its end of a pipe close, kills what is left and removes the
// root directory. So also after SIGKILL, a panic or go test's own timeout.
//
// States of a Cluster: made → running ⇄ stopped → destroyed. Start, Stop and
// Kill9 may be called from one goroutine at a time; everything else from any.
package pgtest
