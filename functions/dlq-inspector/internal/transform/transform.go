// Package transform applies an operator's jq program to the value of a letter, and loses no digit of a number.
//
// jq calculates in binary floating point. Here a number keeps its own digits through everything that moves it, and +, -, *, /, %,
// tonumber and todate are exact (exact.go), and so are comparisons (compare.go). Functions that cannot be exact refuse the numbers that
// they would round (guard.go), and functions that read anything but the value do not exist (names.go). For that, a program is rewritten before it is compiled
// (rewrite.go).
package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/itchyny/gojq"

	"marketdata/shared/fault"
)

const (
	// MaxProgramBytes limits a program.
	MaxProgramBytes = 10_000
	// MaxBytes limits the result of a program, and texts on the way to it.
	MaxBytes = 1 << 20
	// maxTime is for one letter.
	maxTime = 50 * time.Millisecond
	// attempts are made by a program that runs out of time: the process may have had no CPU.
	attempts = 3
	// maxSteps limits the values that one function looks at: a small program can build an array that contains itself many times over.
	maxSteps = 1 << 20
	// maxLength limits arrays that are built at once.
	maxLength = 100_000
)

// Program is a jq program. Safe for concurrent use.
type Program struct {
	source   string
	machines sync.Pool
}

// machine is a compiled program that runs for one letter at a time.
type machine struct {
	code    *gojq.Code
	inexact error // the first calculation that was not exact; a program cannot catch it
}

// Compile returns a program. Errors are Invalid, code invalid_parameter, and say where the program is wrong.
func Compile(source string) (*Program, error) {
	p := &Program{source: source}
	m, err := compile(source)
	if err != nil {
		return nil, err
	}
	p.machines.Put(m)
	return p, nil
}

func compile(source string) (*machine, error) {
	if len(source) > MaxProgramBytes {
		return nil, invalid("it has more than %d bytes", MaxProgramBytes)
	}
	query, err := gojq.Parse(source)
	if at, ok := errors.AsType[*gojq.ParseError](err); ok {
		before := source[:min(max(at.Offset-len(at.Token), 0), len(source))]
		line := strings.Count(before, "\n") + 1
		column := len([]rune(before[strings.LastIndex(before, "\n")+1:])) + 1
		return nil, invalid("%s (line %d, column %d)", err, line, column)
	}
	if err != nil {
		return nil, invalid("%s", err)
	}
	if query, err = rewrite(query); err != nil {
		return nil, err
	}
	m := &machine{}
	if m.code, err = gojq.Compile(query, m.functions()...); err != nil {
		return nil, invalid("%s", err)
	}
	return m, nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.CodeInvalidParameter, "transform: "+format, args...)
}

func failed(format string, args ...any) error {
	return fault.New(fault.Invalid, fault.CodeTransformFailed, format, args...)
}

// Run applies the program to a JSON value and returns its result in JSON. Errors are Invalid, codes inexact and transform_failed; or the
// error of ctx.
func (p *Program) Run(ctx context.Context, value []byte) ([]byte, error) {
	in, err := decode(value)
	if err != nil {
		return nil, err
	}
	m, _ := p.machines.Get().(*machine)
	if m == nil {
		if m, err = compile(p.source); err != nil {
			return nil, err
		}
	}
	defer p.machines.Put(m)
	var out any
	for range attempts {
		if out, err = m.run(ctx, in); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			break
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case m.inexact != nil:
		return nil, m.inexact
	case errors.Is(err, context.DeadlineExceeded):
		return nil, failed("the program takes longer than %s", maxTime)
	case err != nil:
		return nil, err
	}
	text, err := encode(out)
	if err == nil && len(text) > MaxBytes {
		err = errTooLarge
	}
	return text, err
}

var errTooLarge = failed("the result has more than %d bytes", MaxBytes)

// run returns the only result. A panic of the interpreter is an error of the program: otherwise, one program would end the function each
// time its bulk replay goes on.
func (m *machine) run(ctx context.Context, in any) (out any, err error) {
	defer func() {
		if v := recover(); v != nil {
			out, err = nil, failed("jq cannot run this program: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	m.inexact = nil
	results := m.code.RunWithContext(ctx, in)
	out, ok := results.Next()
	if !ok {
		return nil, failed("the program has no result")
	}
	if err := errorOf(out); err != nil {
		return nil, err
	}
	if more, ok := results.Next(); ok {
		if err := errorOf(more); err != nil {
			return nil, err
		}
		return nil, failed("the program has more than one result")
	}
	return out, nil
}

// errorOf returns the error that a program has ended with.
func errorOf(result any) error {
	err, ok := result.(error)
	if _, known := fault.As(err); !ok || known || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return failed("%s", err)
}

// decode reads a JSON value with the digits of its numbers. A member that occurs twice is an error: one of them would be lost.
func decode(value []byte) (any, error) {
	value = bytes.TrimPrefix(value, []byte("\xEF\xBB\xBF"))
	check := jsontext.NewDecoder(bytes.NewReader(value))
	err := check.SkipValue()
	if err == nil {
		if _, err = check.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	var v any
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		err = d.Decode(&v)
	}
	if err != nil {
		return nil, failed("the value is not JSON: %s", err)
	}
	return v, nil
}

// encode writes a value in JSON, with its members sorted.
func encode(v any) ([]byte, error) {
	if !small(v) {
		return nil, errTooLarge
	}
	return gojq.Marshal(v)
}
