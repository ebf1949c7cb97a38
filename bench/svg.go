package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Measures of charts, in pixels.
const (
	chartWidth  = 760
	labelWidth  = 150 // left of the bars
	valueWidth  = 170 // right of the longest bar
	barHeight   = 16
	barPitch    = 22
	panelTitle  = 34
	chartMargin = 12
)

// logFrom is the ratio of the largest to the smallest figure from which on a scale
// is logarithmic.
const logFrom = 50

// palette has a colour for each system, in their order; pg_courier's are the warm
// ones.
var palette = map[string]string{
	reference: "#4c78a8", "worker": "#e45756", "sidecar": "#f58518", ownCapture: "#e45756", uncaptured: "#4c78a8",
	"pglogical": "#72b7b2", "slony": "#54a24b", "londiste": "#9d755d", "pgq": "#9d755d", "bucardo": "#b279a2",
	"jsonb-queue": "#bab0ac", "dblink-row": "#7f7f7f", "empty trigger": "#d3d3d3",
}

func colour(system string) string {
	system, _, _ = strings.Cut(system, ", no delay")
	if c, ok := palette[system]; ok {
		return c
	}
	return "#888888"
}

// svg is a drawing in the making.
type svg struct{ strings.Builder }

func (d *svg) text(x, y float64, anchor, style, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, style, html.EscapeString(text))
}

func (d *svg) line(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, stroke)
}

// finish puts the drawing on a white ground.
func (d *svg) finish(height float64) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" viewBox="0 0 %[1]d %.0[2]f" font-family="sans-serif" font-size="12" fill="#222">`+
		"\n"+`<rect width="100%%" height="100%%" fill="#fff"/>`+"\n%s</svg>\n", chartWidth, height, d.String())
}

// scale maps figures to pixels.
type scale struct {
	low, high float64
	log       bool
	from, to  float64 // pixels
}

// newScale covers figures above 0; those that are not count for nothing.
func newScale(figures []float64, from, to float64, fromZero bool) scale {
	s := scale{low: math.Inf(1), from: from, to: to}
	for _, f := range figures {
		if f > 0 {
			s.low, s.high = min(s.low, f), max(s.high, f)
		}
	}
	if s.high == 0 {
		s.low, s.high = 0, 1
		return s
	}
	if s.log = s.high/s.low > logFrom; s.log {
		s.low /= 2
	} else if fromZero {
		s.low = 0
	}
	if s.low == s.high {
		s.low = 0
	}
	return s
}

func (s scale) at(f float64) float64 {
	f = min(max(f, s.low), s.high)
	part := (f - s.low) / (s.high - s.low)
	if s.log {
		part = math.Log(f/s.low) / math.Log(s.high/s.low)
	}
	return s.from + part*(s.to-s.from)
}

// figuresOf are the first metric's figures as they are drawn.
func (r *report) figuresOf(s *scenario, named, system string) spread {
	first := &s.metrics[0]
	base := r.of(s.name, named, s.reference, first.key)
	return spreadOf(values(first.comparable(r.of(s.name, named, system, first.key), base)))
}

// what is drawn of a scenario.
func (s *scenario) drawn() string {
	first := &s.metrics[0]
	what := first.heading()
	if first.added {
		what = "added " + first.heading()
	}
	if first.less {
		return what + " (less is better)"
	}
	return what + " (more is better)"
}

// bars draws a panel for each case, and in it a bar for each system: the median,
// with a line from the least to the most.
func (r *report) bars(s *scenario) string {
	d := &svg{}
	y := float64(chartMargin)
	d.text(chartMargin, y+10, "start", `font-weight="bold"`, s.title+": "+s.drawn())
	y += 18
	for _, named := range r.cases(s.name) {
		y = r.panel(d, s, named, y)
	}
	return d.finish(y + chartMargin)
}

// panel draws the bars of a case, and returns where the next begins.
func (r *report) panel(d *svg, s *scenario, named string, y float64) float64 {
	var names []string
	var all []float64
	spreads := make(map[string]spread)
	for _, system := range r.systemsOf(s.name) {
		figures := r.figuresOf(s, named, system)
		if figures == (spread{}) || s.metrics[0].added && system == s.reference {
			continue
		}
		names = append(names, system)
		spreads[system] = figures
		all = append(all, figures.Median, figures.Max)
	}
	scale := newScale(all, labelWidth, chartWidth-valueWidth, true)
	title := named
	if scale.log {
		title += " (logarithmic)"
	}
	d.text(chartMargin, y+22, "start", `font-style="italic"`, title)
	y += panelTitle
	for _, system := range names {
		figures := spreads[system]
		end := scale.at(figures.Median)
		d.text(labelWidth-8, y+12, "end", "", system)
		fmt.Fprintf(d, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, end-labelWidth, barHeight, colour(system))
		if figures.Min != figures.Max {
			d.line(scale.at(figures.Min), y+barHeight/2, scale.at(figures.Max), y+barHeight/2, "#222")
		}
		d.text(max(end, scale.at(figures.Max))+6, y+12, "start", "", number(figures.Median, s.metrics[0].digits))
		y += barPitch
	}
	return y
}

// curves draws a line for each system over the scenario's axis.
func (r *report) curves(s *scenario) string {
	const left, top, bottom, right = 90, 50, 300, chartWidth - 150
	d := &svg{}
	cases := r.cases(s.name)
	systems := r.systemsOf(s.name)
	var xs, ys []float64
	for _, named := range cases {
		xs = append(xs, r.x(s.name, named))
		for _, system := range systems {
			ys = append(ys, r.figuresOf(s, named, system).Median)
		}
	}
	across, up := newScale(xs, left, right, false), newScale(ys, bottom, top, true)
	d.text(chartMargin, 22, "start", `font-weight="bold"`, s.title+": "+s.drawn())
	d.line(left, bottom, right, bottom, "#888")
	d.line(left, bottom, left, top, "#888")
	for _, x := range xs {
		d.line(across.at(x), bottom, across.at(x), bottom+4, "#888")
		d.text(across.at(x), bottom+18, "middle", "", number(x, 0))
	}
	d.text((left+right)/2, bottom+38, "middle", "", s.axis)
	for _, y := range up.ticks() {
		d.line(left, up.at(y), right, up.at(y), "#e6e6e6")
		d.text(left-6, up.at(y)+4, "end", "", number(y, decimals(y)))
	}
	for i, system := range systems {
		var points []string
		for j, named := range cases {
			if figures := r.figuresOf(s, named, system); figures != (spread{}) {
				x, y := across.at(xs[j]), up.at(figures.Median)
				points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
				fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x, y, colour(system))
				if figures.Min != figures.Max {
					d.line(x, up.at(figures.Min), x, up.at(figures.Max), colour(system))
				}
			}
		}
		fmt.Fprintf(d, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colour(system))
		y := float64(top + i*18)
		d.line(right+16, y, right+36, y, colour(system))
		d.text(right+42, y+4, "start", "", system)
	}
	return d.finish(max(bottom+50, top+float64(len(systems))*18+10))
}

// ticks are round figures within a scale.
func (s scale) ticks() []float64 {
	var ticks []float64
	if s.log {
		for t := math.Pow(10, math.Ceil(math.Log10(s.low))); t <= s.high; t *= 10 {
			ticks = append(ticks, t)
		}
		return ticks
	}
	step := math.Pow(10, math.Floor(math.Log10(s.high-s.low)))
	if (s.high-s.low)/step < 3 {
		step /= 2
	}
	for t := math.Ceil(s.low/step) * step; t <= s.high; t += step {
		ticks = append(ticks, t)
	}
	return ticks
}

// decimals are the digits that a tick needs behind the point.
func decimals(f float64) int {
	if f >= 10 || f == math.Trunc(f) {
		return 0
	}
	return int(math.Ceil(-math.Log10(f))) + 1
}
