package series

// State is the newest price of a series, and its averages.
type State struct {
	Key
	Version  string // another one after each change; opaque
	Price    Value  // of the newest point
	AsOf     int64  // time of the newest point, microseconds since 1970
	Averages []Average
}
