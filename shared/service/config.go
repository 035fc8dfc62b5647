package service

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"marketdata/shared/request"
	"marketdata/shared/trace"
)

// Config has the settings that every function reads from the environment. Functions embed it in their own.
type Config struct {
	Host            string        `envconfig:"HOST"`                           // address to bind; empty: all, which Knative's probes need
	Port            int           `envconfig:"PORT" default:"8080"`            // set by Knative
	LogLevel        slog.Level    `envconfig:"LOG_LEVEL" default:"info"`       // debug, info, warn, error
	ShutdownTimeout time.Duration `envconfig:"SHUTDOWN_TIMEOUT" default:"10s"` // for requests in flight at SIGTERM
	// ShutdownDelay keeps serving after SIGTERM, while /readyz says stopping: 0 on Knative, healthcheck_interval under OpenFaaS.
	ShutdownDelay time.Duration `envconfig:"SHUTDOWN_DELAY" default:"0s"`
	CORSOrigins   string        `envconfig:"CORS_ORIGINS"` // whose pages may read through a browser, see [ParseOrigins]; empty: none
	Tracing       trace.Config
}

// longest bounds settings that are durations; a longer one is a mistake.
const longest = 24 * time.Hour

// Validate reports all faults at once, in the order of the fields.
func (c Config) Validate() error {
	_, badOrigins := ParseOrigins(c.CORSOrigins)
	return errors.Join(
		Within("PORT", c.Port, 0, 65535), Within("SHUTDOWN_TIMEOUT", c.ShutdownTimeout, time.Millisecond, longest),
		Within("SHUTDOWN_DELAY", c.ShutdownDelay, 0, longest), badOrigins, c.Tracing.Validate(),
	)
}

// LoadConfig fills config, a pointer to the settings of a function, from the environment, and validates it. A field of type [Secret], or
// with the tag secret:"true", may come from a file instead, see [SecretSetting]. The error names the variable and its form; it never
// shows the value of a secret.
func LoadConfig(config interface{ Validate() error }) error {
	if err := envconfig.Process("", config); err != nil {
		var parse *envconfig.ParseError
		if !errors.As(err, &parse) {
			return fmt.Errorf("config: %w", err)
		}
		return fmt.Errorf("%s: %q is not %s", parse.KeyName, request.Cut(parse.Value, 64), forms(parse.TypeName))
	}
	if slices.ContainsFunc(os.Environ(), namesFile) { // else there is nothing to find: the search takes a tenth of envconfig's time
		if err := errors.Join(readSecrets(reflect.ValueOf(config).Elem())...); err != nil {
			return err
		}
	}
	return config.Validate()
}

func namesFile(assignment string) bool {
	variable, _, _ := strings.Cut(assignment, "=")
	return strings.HasSuffix(variable, fileSuffix)
}

// readSecrets sets the secrets in a struct whose variable names a file.
func readSecrets(v reflect.Value) (errs []error) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		variable := field.Tag.Get("envconfig")
		switch {
		case variable == "" && field.Type.Kind() == reflect.Struct && field.IsExported():
			errs = append(errs, readSecrets(v.Field(i))...)
		case field.Type != secretType && field.Tag.Get("secret") == "", variable == "", Setting(variable+fileSuffix, "") == "":
		default:
			value, err := SecretSetting(variable)
			if decoder, ok := v.Field(i).Addr().Interface().(encoding.TextUnmarshaler); !ok {
				v.Field(i).SetString(string(value))
			} else if err == nil {
				err = decoder.UnmarshalText([]byte(value))
			}
			errs = append(errs, err)
		}
	}
	return errs
}

var secretType = reflect.TypeFor[Secret]()

// fileSuffix ends the names of variables that name a file with the value.
const fileSuffix = "_FILE"

// SecretSetting returns a secret of the environment, empty if there is none: the value of the variable, or the content of the file that
// <variable>_FILE names, without white space around it. OpenFaaS and Kubernetes mount secrets as files. Errors name the variable and
// the path, and nothing of the content. An empty variable counts as not set.
func SecretSetting(variable string) (Secret, error) {
	value, path := Setting(variable, ""), Setting(variable+fileSuffix, "")
	switch {
	case path == "":
		return Secret(value), nil
	case value != "":
		return "", fmt.Errorf("%s and %s are both set", variable, variable+fileSuffix)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own choice
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable+fileSuffix, err)
	}
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return "", fmt.Errorf("%s: %s is empty", variable+fileSuffix, path)
	}
	return Secret(text), nil
}

// forms describes the form of a setting of a type.
func forms(typeName string) string {
	switch typeName {
	case "time.Duration":
		return "a duration such as 500ms, 10s or 5m (at most 292 years)"
	case "slog.Level":
		return "one of debug, info, warn, error"
	case "bool":
		return "1 or 0"
	case "int", "int64":
		return "a whole number"
	case "uint64":
		return "a whole number of 0 or more"
	case "[]int":
		return "a list of whole numbers, separated by commas"
	}
	return "usable" // our own types keep their errors for Validate
}

// Setting returns a variable of the environment whose name is only known at run time, or fallback if it is not set.
func Setting(variable, fallback string) string {
	if value, ok := os.LookupEnv(variable); ok { //nolint:forbidigo // envconfig takes 10 µs for a name that is put together
		return value
	}
	return fallback
}

// Within reports a setting that is not within least and most.
func Within[T cmp.Ordered](variable string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s: %v is not within %v to %v", variable, value, least, most)
	}
	return nil
}

// OneOf reports a setting that is not one of the known values.
func OneOf(variable, what, value string, known []string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return fmt.Errorf("%s: unknown %s %q (one of %s)", variable, what, request.Cut(value, 64), strings.Join(known, ", "))
}

// EachOf is [OneOf] for a setting that is a list.
func EachOf(variable, what string, values, known []string) error {
	var errs []error
	for _, value := range values {
		errs = append(errs, OneOf(variable, what, value, known))
	}
	return errors.Join(errs...)
}

// Required reports a setting that is empty.
func Required[T ~string](variable string, value T) error {
	if value == "" {
		return errors.New(variable + " is not set")
	}
	return nil
}
