package roles

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/secure/precis"
)

// Login checks that a function can connect with its URL, as a member of its role. A user that does not exist is made, with the password
// of the URL, and one that is no member becomes one, if the owner of databaseURL may do so. It never changes a password: to replace one,
// give the URL another user. The error never contains a URL.
func Login(ctx context.Context, databaseURL, function, functionURL string) error {
	config, err := pgx.ParseConfig(functionURL)
	if err != nil {
		return fmt.Errorf("%s is not a Postgres connection string", Variable(function))
	}
	member, refusal := isMember(ctx, function, functionURL)
	unknown := strings.HasPrefix(code(refusal), "28") // invalid_authorization_specification, invalid_password
	if member || refusal != nil && !unknown {
		return refusal
	}
	owner, err := connect(ctx, "DATABASE_URL", databaseURL)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the work is committed; nothing depends on a clean close
	user, role := pgx.Identifier{config.User}.Sanitize(), Name(function)
	statement := "grant " + role + " to " + user
	if unknown {
		found, err := exists(ctx, owner, config.User)
		if err != nil {
			return fmt.Errorf("look for the user of %s: %w", Variable(function), err)
		}
		if found {
			return refusal // the password is wrong
		}
		statement = "create role " + user + " login in role " + role
		if config.Password != "" {
			statement += " password '" + verifier(config.Password) + "'"
		}
	}
	if _, err := owner.Exec(ctx, statement); refused(err) {
		return fmt.Errorf("the owner may not make %s a member of %s, as %s needs: create the user, and grant %s to it", user, role, Variable(function), role)
	} else if ignoreExisting(err) != nil {
		return fmt.Errorf("make %s a member of %s: %w", user, role, err)
	}
	member, err = isMember(ctx, function, functionURL)
	if err == nil && !member {
		err = fmt.Errorf("the user of %s does not inherit the privileges of %s", Variable(function), role)
	}
	return err
}

// isMember connects with the URL of a function, and reports whether its user has the privileges of the function's role.
func isMember(ctx context.Context, function, url string) (member bool, err error) {
	conn, err := connect(ctx, Variable(function), url)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read
	const q = "select coalesce((select pg_has_role(oid, 'usage') from pg_roles where rolname = $1), false)"
	if err := conn.QueryRow(ctx, q, Name(function)).Scan(&member); err != nil {
		return false, fmt.Errorf("ask for the roles of the user of %s: %w", Variable(function), err)
	}
	return member, nil
}

const iterations = 4096 // the default of scram_iterations

// verifier returns what the server stores of a password (RFC 5803, SCRAM-SHA-256). A statement with the password itself would be in the
// server's log, if it logs statements.
func verifier(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	return verify(password, salt)
}

func verify(password string, salt []byte) string {
	if prepared, err := precis.OpaqueString.String(password); err == nil { // else it counts as it is, as for pgx and libpq
		password = prepared
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		panic(fmt.Errorf("derive a key: %w", err)) // only for parameters that FIPS 140 does not allow
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	text := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, text(salt), text(stored[:]), text(mac(salted, "Server Key")))
}
