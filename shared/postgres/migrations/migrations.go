// Package migrations embeds the schema: forward-only SQL files, applied in numerical order.
package migrations

import "embed"

// FS holds the numbered SQL files.
//
//go:embed *.sql
var FS embed.FS
