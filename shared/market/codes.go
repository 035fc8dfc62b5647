package market

// Codes of the errors of [Provider.Latest].
const (
	CodeSymbolNotFound = "symbol_not_found"
	CodeMalformed      = "provider_malformed"
	CodeAuth           = "provider_auth"
	CodeRateLimited    = "provider_rate_limited" // also of a budget that is spent
	CodeUnavailable    = "provider_unavailable"
	CodeTimeout        = "provider_timeout"
)
