package services

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"marketdata/shared/postgres/roles"
)

// addUsers sets the URLs of the functions' users on the Postgres that was started, with passwords of their own, and puts PgBouncer in front
// if o says so. The users are made after the migration, which makes their roles: see [roles.Login].
func (a *Addresses) addUsers(ctx context.Context, o Options) (stop func(context.Context), err error) {
	urls := []string{a.DatabaseURL}
	for _, function := range roles.Functions {
		password, err := KeptSecret(filepath.Join(o.Dir, function+".password"))
		if err != nil {
			return nil, fmt.Errorf("database password of %s: %w", function, err)
		}
		u, err := url.Parse(a.DatabaseURL)
		if err != nil {
			return nil, fmt.Errorf("parse our own URL: %w", err)
		}
		u.User = url.UserPassword(strings.ReplaceAll(function, "-", "_"), password)
		urls = append(urls, u.String())
	}
	if o.Pooler {
		if urls, stop, err = startPooler(ctx, o, urls); err != nil {
			return stop, err
		}
	}
	a.DatabaseURL, a.Users = urls[0], map[string]string{}
	for i, function := range roles.Functions {
		a.Users[function] = urls[i+1]
	}
	return stop, nil
}
