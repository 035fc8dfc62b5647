package replay

import (
	"context"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/priceevent"
)

// edit is a value that an operator sends instead of a letter's.
type edit struct {
	written    []byte            // as the operator wrote it
	value      []byte            // the event's data
	attributes map[string]string // of the envelope that the operator wrote; nil: the letter's own
}

// Transformed returns what a program makes of a letter: of the data of its event. Errors are Invalid, codes inexact and
// transform_failed; or the error of ctx.
func Transformed(ctx context.Context, p *transform.Program, l letter.Stored) ([]byte, error) {
	switch {
	case l.Value == nil:
		return nil, fault.New(fault.Invalid, fault.CodeTransformFailed, "the letter has no value")
	case l.Cut() != nil:
		return nil, fault.New(fault.Invalid, fault.CodeTransformFailed, "only the beginning of the value is stored")
	}
	return p.Run(ctx, l.Data())
}

// readEdit checks a value against the event's schema. The value is the event's data, or a whole CloudEvent in JSON, which is what a
// letter in structured mode has. Errors are Invalid, with compute-ma's codes.
func readEdit(written []byte, now time.Time) (*edit, error) {
	_, err := priceevent.Decode(written, 0, now)
	if err == nil {
		return &edit{written: written, value: written}, nil
	}
	e, notAnEnvelope := ingress.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, written)
	if notAnEnvelope != nil {
		return nil, err
	}
	if _, err := priceevent.Decode(e.Data(), 0, now); err != nil {
		return nil, err
	}
	attributes := map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "dataschema": e.DataSchema(),
	}
	if !e.Time().IsZero() {
		attributes["time"] = types.FormatTime(e.Time())
	}
	for name, v := range e.Extensions() {
		if text, err := types.Format(v); err == nil {
			attributes[name] = text
		}
	}
	return &edit{written: written, value: e.Data(), attributes: attributes}, nil
}
