package dblink

import (
	"context"
	"fmt"
	"time"
)

// Limits are when the node ends what a link does there, or the link.
type Limits struct {
	Statement time.Duration
	// IdleInTransaction is long enough for the next piece of a large transaction to
	// come over a slow network, from the source's server to it and to the node.
	// Claim does not wait for it.
	IdleInTransaction time.Duration
	// Idle is so that sessions of links that were given up don't pile up; a link in
	// use asks for the progress every few seconds.
	Idle time.Duration
}

var usualLimits = Limits{Statement: 10 * time.Minute, IdleInTransaction: 2 * time.Minute, Idle: 5 * time.Minute}

type limitsKey struct{}

// WithLimits has the links that are opened under a context keep to limits other than
// the usual ones: those take minutes to be seen.
func WithLimits(ctx context.Context, limits Limits) context.Context {
	return context.WithValue(ctx, limitsKey{}, limits)
}

func limitsOf(ctx context.Context) Limits {
	if limits, ok := ctx.Value(limitsKey{}).(Limits); ok {
		return limits
	}
	return usualLimits
}

// patientInTransaction bounds a transaction of a patient link nevertheless: behind a
// connection pooler the node can't see that the source has vanished.
const patientInTransaction = 24 * time.Hour

func (l Limits) settings(patient bool) [][2]string {
	if patient {
		l.IdleInTransaction, l.Idle = patientInTransaction, 0
	}
	return [][2]string{
		{"statement_timeout", milliseconds(l.Statement)},
		{"idle_in_transaction_session_timeout", milliseconds(l.IdleInTransaction)},
		{"idle_session_timeout", milliseconds(l.Idle)},
	}
}

// Patient lets the session on the node be idle for as long as the source has to work
// or to wait between two statements, in a transaction too, or puts its limits back.
// It ends nevertheless when the source's session does, which closes the connection,
// and when the source's server is gone, which the node's keepalives find out; Claim
// ends one that stands in the way.
func (l *Link) Patient(ctx context.Context, patient bool) error {
	if l.patient == patient {
		return nil
	}
	l.patient = patient
	if err := l.Configure(ctx); err != nil {
		return fmt.Errorf("let the session wait: %w", err)
	}
	return nil
}
