package service

import "marketdata/shared/secret"

// Secret is a config value that must not be seen.
type Secret = secret.Value
