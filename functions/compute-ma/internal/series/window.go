package series

import "math/big"

// Window is a run of values whose [Mean] is kept as it slides: a step costs the same however long the run is. The sum is
// exact, so it does not drift. Make it with [NewWindow].
type Window struct {
	unit   int        // digits after the point of sum
	powers []*big.Int // 10^0 to 10^unit
	sum    big.Int    // in units of 10^-unit
	scales [256]int   // how many of the values have that many digits after the point
	count  int
	term   big.Int
}

// NewWindow makes an empty window for values that are all among these.
func NewWindow(all []Value) *Window {
	w := &Window{}
	for _, v := range all {
		w.unit = max(w.unit, int(v.scale))
	}
	for e := range w.unit + 1 {
		w.powers = append(w.powers, power(e))
	}
	return w
}

// Add takes a value in.
func (w *Window) Add(v Value) {
	w.sum.Add(&w.sum, w.units(v))
	w.scales[v.scale]++
	w.count++
}

// Remove takes a value out that was added.
func (w *Window) Remove(v Value) {
	w.sum.Sub(&w.sum, w.units(v))
	w.scales[v.scale]--
	w.count--
}

func (w *Window) units(v Value) *big.Int {
	if v.wide != nil {
		w.term.Set(v.wide)
	} else {
		w.term.SetUint64(v.small)
	}
	return w.term.Mul(&w.term, w.powers[w.unit-int(v.scale)])
}

// Mean is [Mean] of the values in the window, of which there must be one.
func (w *Window) Mean() Value {
	scale := w.unit
	for w.scales[scale] == 0 {
		scale--
	}
	// No value has more digits than scale, so this is exact.
	sum, n := w.term.Quo(&w.sum, w.powers[w.unit-scale]), uint64(w.count) //nolint:gosec // not negative
	if sum.IsUint64() {
		if mean, ok := smallQuotient(sum.Uint64(), scale, n); ok {
			return mean
		}
	}
	return wideQuotient(new(big.Int).Set(sum), scale, n)
}
