package schedule

// Limits that tests of whole ticks exceed.
const (
	ClaimBatch = claimBatch
	RunsBatch  = runsBatch
)
