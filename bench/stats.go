package main

import (
	"maps"
	"math"
	"slices"
)

// spread sums up a series of measurements.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1]}
}

// paired applies f to the measurements of the same round.
func paired(values, others map[int]float64, f func(value, other float64) float64) []float64 {
	return slices.Collect(maps.Values(byRound(values, others, f)))
}

// byRound is paired, with the rounds.
func byRound(values, others map[int]float64, f func(value, other float64) float64) map[int]float64 {
	result := make(map[int]float64)
	for round, value := range values {
		if other, ok := others[round]; ok {
			result[round] = f(value, other)
		}
	}
	return result
}

func values(byRound map[int]float64) []float64 {
	var list []float64
	for _, value := range byRound {
		list = append(list, value)
	}
	return list
}

// quantile of ascending values: the smallest that so large a part does not
// exceed.
func quantile(sorted []float64, part float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(part*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
