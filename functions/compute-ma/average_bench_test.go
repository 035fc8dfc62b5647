package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

func BenchmarkMean(b *testing.B) {
	for _, n := range []int{5, 20, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := make([]market.Price, n)
			for i := range all {
				all[i] = market.NewPrice(decimal.New(int64(15025+i), -2))
			}
			for b.Loop() {
				mean(all)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	now := time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := priceevent.Decode([]byte(good), 0, now); err != nil {
			b.Fatal(err)
		}
	}
}
