package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pg-courier/pg_courier/pkg/status"
)

// subscriptionStates looks at how shipping goes.
func (e *source) subscriptionStates(context.Context) ([]Finding, error) {
	var findings []Finding
	for i := range e.status.Subscriptions {
		s := &e.status.Subscriptions[i]
		if f := e.subscriptionState(s); f != nil {
			f.Node, f.Subscription = s.Node, s.Name
			findings = append(findings, *f)
		}
	}
	return findings, nil
}

func (e *source) subscriptionState(s *status.Subscription) *Finding {
	reason, hint := "", ""
	if s.LastError != nil {
		reason, hint = oneLine(s.LastError.Message), oneLine(s.LastError.Hint)
		if s.LastError.SQLState != "" {
			reason += " (" + s.LastError.SQLState + ")"
		}
	}
	lag := time.Duration(0)
	if s.LagSeconds != nil {
		lag = time.Duration(*s.LagSeconds * float64(time.Second))
	}
	switch {
	case s.State == "stopped":
		if hint == "" {
			hint = "Repair what the error names; it is tried again every few seconds."
		}
		return &Finding{Severity: Error, Message: "the subscription is stopped: " + reason,
			Why: "Nothing is sent to the node until its cause is repaired; changes wait in the queue.", Remedy: hint}
	case s.State == "needs_resync":
		return &Finding{Severity: Error, Message: "the subscription needs a resync: " + reason,
			Why:    "The queue cannot bring the node up to date any more.",
			Remedy: "Drop the subscription, empty its tables on the node, and create it again with copy_data => true."}
	case s.State == "retrying":
		return &Finding{Severity: Warning, Message: "the subscription is interrupted: " + reason,
			Why: "It is tried again by itself; changes wait in the queue.", Remedy: hint}
	case s.State != "disabled" && lag > e.limits.Lag:
		return &Finding{Severity: Warning, Message: fmt.Sprintf("the subscription is %s behind", lag.Round(time.Second)),
			Why:    "Either nobody ships it, or more is written than the node takes.",
			Remedy: "See that courier run is running for this database: systemctl status courier, or SELECT courier.ship(" + literal(s.Name) + ") in a session."}
	}
	return nil
}

func (e *source) queueSize() string {
	if e.status.Queue == nil {
		return "unknown"
	}
	return humanize.IBytes(uint64(e.status.Queue.Bytes))
}

// queue looks at what it takes and at who holds it.
func (e *source) queue() []Finding {
	var findings []Finding
	if e.status.Queue != nil && e.status.Queue.Bytes > e.limits.QueueBytes {
		findings = append(findings, Finding{Severity: Warning, Message: "the queue takes " + e.queueSize(),
			Why:    "It is on the disk of the source; when that is full, nobody can write.",
			Remedy: "Let the slowest subscription catch up or drop it; courier status shows which it is."})
	}
	for i := range e.status.Subscriptions {
		s := &e.status.Subscriptions[i]
		if s.State != "disabled" && s.State != "stopped" && s.State != "needs_resync" || s.LagSeconds == nil || s.PendingChanges == nil {
			continue
		}
		held := time.Duration(*s.LagSeconds * float64(time.Second))
		if *s.PendingChanges == 0 || held < e.limits.Held {
			continue
		}
		f := Finding{Severity: Warning, Subscription: s.Name,
			Message: fmt.Sprintf("the queue keeps %s changes, the oldest %s old, for a subscription that is %s",
				humanize.Comma(*s.PendingChanges), held.Round(time.Second), s.State),
			Why:    "The queue grows until the subscription goes on or is dropped.",
			Remedy: "Repair what has stopped it, or drop it: SELECT courier.drop_subscription(" + literal(s.Name) + ")."}
		if s.State == "disabled" {
			f.Remedy, f.RunOn = "SELECT courier.alter_subscription_enable("+literal(s.Name)+");", OnSource
		}
		findings = append(findings, f)
	}
	return findings
}

// deadLetters counts those that wait for a decision, if the view says which do.
func (e *source) deadLetters(ctx context.Context) ([]Finding, error) {
	var readable bool
	if err := e.one(ctx, &readable, `SELECT pg_catalog.to_json(
		pg_catalog.has_table_privilege('courier.dead_letter', 'SELECT'))`); err != nil || !readable {
		return nil, err
	}
	var open []struct {
		Subscription string `json:"subscription"`
		Count        int64  `json:"count"`
	}
	err := e.one(ctx, &open, `SELECT coalesce(pg_catalog.jsonb_agg(o), '[]') FROM (
		SELECT d.subscription_name AS subscription, pg_catalog.count(*) AS count FROM courier.dead_letter d
		WHERE pg_catalog.to_jsonb(d) ->> 'state' IN ('open', 'skipped') GROUP BY d.subscription_name ORDER BY 1) o`)
	var findings []Finding
	for _, o := range open {
		findings = append(findings, Finding{Severity: Warning, Subscription: o.Subscription,
			Message: fmt.Sprintf("%d dead letters wait for a decision", o.Count),
			Why:     "These transactions have not been applied on the node.",
			Remedy:  "Look at SELECT * FROM courier.dead_letter; then courier.retry_dead_letter(id) or courier.discard_dead_letter(id)."})
	}
	return findings, err
}
