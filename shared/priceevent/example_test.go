package priceevent_test

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
)

func ExampleEncode() {
	price, _ := market.ParsePrice("150.250")
	m, err := priceevent.Encode(priceevent.Observation{
		Symbol: "AAPL", Provider: "yfinance", Price: price, ObservedAt: time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC),
		RawResponseID: uuid.MustParse("0190f5d8-0000-7000-8000-000000000001"),
	})
	fmt.Println(err)
	fmt.Println(m.Key, m.Headers["ce_type"], m.Headers["ce_id"])
	fmt.Println(string(m.Value))
	// Output:
	// <nil>
	// AAPL marketdata.price.observed.v1 0190f5d8-0000-7000-8000-000000000001:AAPL:1710930600000000
	// {"symbol":"AAPL","price":150.25,"timestamp":"2024-03-20T10:30:00Z","source":"yfinance","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}
}

// The error of a refused event has the code that operators find in the dead letter.
func ExampleDecode() {
	_, err := priceevent.Decode([]byte(`{"symbol":"AAPL","price":"150.25"}`), 0, time.Now())
	reason, _ := priceevent.Explain(fault.CodeOf(err))
	fmt.Println(err)
	fmt.Println(reason.Remedy)
	// Output:
	// invalid_schema: member "timestamp" must be a string
	// correct the value and replay
}
