package transform

import (
	"testing"

	"github.com/itchyny/gojq"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

func TestAPanicOfTheInterpreterIsAnErrorOfTheProgram(t *testing.T) {
	t.Parallel()
	query, err := gojq.Parse("crash")
	require.NoError(t, err)
	code, err := gojq.Compile(query, gojq.WithFunction("crash", 0, 0, func(any, []any) any { panic("out of stack") }))
	require.NoError(t, err)
	p := &Program{}
	p.machines.Put(&machine{code: code})
	out, err := p.Run(t.Context(), []byte("1"))
	require.Empty(t, out)
	require.Equal(t, fault.CodeTransformFailed, fault.CodeOf(err))
	require.ErrorContains(t, err, "jq cannot run this program: out of stack")
}
