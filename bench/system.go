package main

import "context"

// shipper is a system at work on one pair of servers. It is made with
// shipping stopped and the table empty on both sides.
type shipper interface {
	// start lets shipping begin; the clock runs.
	start(ctx context.Context) error
	// use tells what shipping has cost since start, while it still runs.
	use(ctx context.Context) (usage, error)
	// stop ends shipping, to be started again.
	stop(ctx context.Context) error
	// close ends it for good, also after an error.
	close() error
}

// usage is what shipping has cost. CPU times are in seconds.
type usage struct {
	SourceCPU  float64 `json:"source_cpu_s"`  // backends of the source server
	ShipperCPU float64 `json:"sidecar_cpu_s"` // a process of its own, if there is one
	TargetCPU  float64 `json:"target_cpu_s"`  // backends of the target server
	PeakMB     float64 `json:"sidecar_peak_mb"`
}

// since is what has been used after an earlier look.
func (u usage) since(before usage) usage {
	u.SourceCPU -= before.SourceCPU
	u.ShipperCPU -= before.ShipperCPU
	u.TargetCPU -= before.TargetCPU
	return u
}

// system is a way to ship.
type system struct {
	name  string
	setup func(ctx context.Context, p *pair, c *config) (shipper, error)
}

const reference = "built-in" // what ratios are relative to

// systems are the peers.
var systems = []system{
	{reference, newBuiltin},
	{"sidecar", newSidecar},
	{"worker", newWorker},
}

func systemNames() []string {
	var names []string
	for _, s := range systems {
		names = append(names, s.name)
	}
	return names
}

// serverUse sums up the backends of both servers.
func (p *pair) serverUse(ctx context.Context) (usage, error) {
	source, err := p.source.shippingCPU(ctx)
	if err != nil {
		return usage{}, err
	}
	target, err := p.target.shippingCPU(ctx)
	return usage{SourceCPU: source, TargetCPU: target}, err
}
