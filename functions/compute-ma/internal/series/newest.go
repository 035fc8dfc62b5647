// Package series holds what compute-ma knows of a series without asking for its history: its newest points, and their
// means. It is pure: no I/O and no clock.
//
// The newest points are a semilattice: merging a point in is commutative, associative and idempotent as long as of two
// prices for one instant always the same one wins, which the table of points decides by rank. So the value is the same
// whatever the order in which a series' points arrive.
package series

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
)

// MaxPoints is how many points are kept: as many as the largest window has.
const MaxPoints = 50

// Point is one observed price.
type Point struct {
	At    int64 // microseconds since 1970, UTC
	Price Value
}

// Newest is a series' newest points, newest first, at most [MaxPoints], one for an instant. The zero Newest has none.
type Newest struct{ Points []Point }

// Put merges a point in; a price for an instant that is there replaces it. changed is false if the point is older than all of a
// full set: then no mean moves.
func (n *Newest) Put(p Point) (changed bool) {
	i, found := slices.BinarySearchFunc(n.Points, p.At, func(q Point, at int64) int { return cmp.Compare(at, q.At) })
	switch {
	case found:
		n.Points[i] = p
	case i == MaxPoints:
		return false
	default:
		n.Points = slices.Insert(n.Points, i, p)
		n.Points = n.Points[:min(len(n.Points), MaxPoints)]
	}
	return true
}

// Average is the mean of the newest points of a series within one window.
type Average struct {
	Window, PointsUsed int
	Mean               Value
	AsOf, Oldest       int64 // newest and oldest point used, microseconds since 1970
}

// Complete reports whether the window is full.
func (a Average) Complete() bool { return a.PointsUsed == a.Window }

// Averages computes each window's mean. A window larger than the series uses what there is; without any point there is
// no average.
func (n Newest) Averages(windows []int) []Average {
	if len(n.Points) == 0 {
		return nil
	}
	values := make([]Value, len(n.Points))
	for i, p := range n.Points {
		values[i] = p.Price
	}
	out := make([]Average, len(windows))
	for i, w := range windows {
		used := min(w, len(values))
		out[i] = Average{w, used, Mean(values[:used]), n.Points[0].At, n.Points[used-1].At}
	}
	return out
}

// version is the first byte of the encoding. Bytes of another version are not read: the points are in their table.
const version = 1

// ErrEncoding means that the bytes are not what Append makes.
var ErrEncoding = errors.New("newest points are not readable")

// Append writes n behind b: the version, then each point as the varint of its distance to the one before (the first: to
// 1970) in microseconds, its scale, and its coefficient, as a varint or, where a word does not hold it, as 0, length and
// big-endian bytes.
func (n Newest) Append(b []byte) []byte {
	b = append(b, version)
	before := int64(0)
	for _, p := range n.Points {
		b = binary.AppendVarint(b, p.At-before)
		before = p.At
		b = append(b, p.Price.scale)
		if p.Price.wide == nil {
			b = binary.AppendUvarint(b, p.Price.small)
			continue
		}
		raw := p.Price.wide.Bytes()
		b = append(b, 0)
		b = binary.AppendUvarint(b, uint64(len(raw)))
		b = append(b, raw...)
	}
	return b
}

// Decode reads what Append wrote.
func Decode(b []byte) (Newest, error) {
	if len(b) == 0 || b[0] != version {
		return Newest{}, ErrEncoding
	}
	rest := reader(b[1:])
	points := make([]Point, 0, MaxPoints+1) // room for one more: Put inserts, then cuts
	at := int64(0)
	for len(rest) > 0 {
		at += rest.varint()
		p := Point{At: at, Price: Value{scale: rest.byte()}}
		if p.Price.small = rest.uvarint(); p.Price.small == 0 {
			p.Price.wide = new(big.Int).SetBytes(rest.bytes(rest.uvarint()))
			if p.Price.wide.IsUint64() { // a small one has one form only, and 0 is none
				return Newest{}, ErrEncoding
			}
		}
		if n := len(points); n == MaxPoints || n > 0 && points[n-1].At <= at {
			return Newest{}, ErrEncoding
		}
		points = append(points, p)
	}
	return Newest{points}, nil
}

// reader takes values off the front. Where bytes are missing, the value is 0 and nothing is left, so that the price is 0, which none is.
type reader []byte

func (r *reader) advance(n int) {
	if n <= 0 {
		*r = nil
		return
	}
	*r = (*r)[n:]
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(*r)
	r.advance(n)
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(*r)
	r.advance(n)
	return v
}

func (r *reader) byte() byte {
	if len(*r) == 0 {
		return 0
	}
	b := (*r)[0]
	*r = (*r)[1:]
	return b
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(*r)) {
		return nil
	}
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}
