package testenv

import (
	"fmt"
	"net/url"
)

// replaceDatabase replaces the database in a Postgres URL.
func replaceDatabase(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" {
		return "", fmt.Errorf("DATABASE_URL must be a URL for tests, such as postgres://user@host:5432/postgres")
	}
	u.Path = "/" + name
	return u.String(), nil
}
