package main

import "context"

// worker is pg_courier with trigger capture, shipped by a background worker.
type worker struct {
	*pair
}

func newWorker(ctx context.Context, p *pair, _ *config) (shipper, error) {
	return &worker{p}, p.source.exec(ctx, p.subscribe("worker"))
}

func (w *worker) start(ctx context.Context) error {
	return w.source.exec(ctx, "SELECT courier.alter_subscription_enable('s')")
}

func (w *worker) use(ctx context.Context) (usage, error) { return w.serverUse(ctx) }

func (w *worker) stop(ctx context.Context) error {
	if err := w.source.exec(ctx, "SELECT courier.alter_subscription_disable('s')"); err != nil {
		return err
	}
	return w.source.await(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pg_courier ship worker'")
}

func (w *worker) close() error { return nil }
