package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/testenv/call"
)

type parameters struct {
	Name  string   `query:"name"`
	Token string   `query:"page_token"`
	List  []string `query:"list"`
	Key   string   `header:"Key"`
	Lines []string `header:"Lines"`
}

func TestParametersAreGivenOnceAndHaveAValue(t *testing.T) {
	t.Parallel()
	s, logs := newFunction(t)
	api.Handle(s.api, huma.Operation{OperationID: "show", Method: http.MethodGet, Path: "/show"},
		func(context.Context, *parameters) (*struct{}, error) { return nil, nil })
	get := func(query string, header ...string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/show", nil)
		r.URL.RawQuery = query
		for _, h := range header {
			r.Header.Add(h, "x")
		}
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, query := range []string{"", "name=a", "&name=a&", "name=a&list=b,c", "name=%26%3D%3B", "name=a%20b+c", "n%61me=a", "name==", "page_token=&name=a"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, http.StatusNoContent, get(query).Code)
		})
	}
	require.Equal(t, http.StatusNoContent, get("", "Key", "Lines", "Lines").Code)
	for _, query := range []string{
		"name=a&name=b", "name=a&n%61me=b", "list=a&list=b", "name=", "name", "page_token=&page_token=", "name&name=a", "name=%zz", "%zz=a", "name=a;list=b", "=a", "=", "a=1&b=2",
		"name=a&x=1", strings.Repeat("&x=1", 20),
	} {
		w := get(query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		require.Equal(t, "invalid_parameter", call.Problem(t, w).Code, query)
	}
	require.Equal(t, "invalid_parameter", call.Problem(t, get("", "Key", "Key")).Code)
	require.Contains(t, logs.String(), "invalid_parameter", "the log has the cause")
	doc := call.Do(s.Handler(), http.MethodGet, "/openapi.json", "").Body.String()
	require.Contains(t, doc, `"name":"name","schema":{"minLength":1,"type":"string"}`)
	require.Contains(t, doc, `"name":"list","schema":{"items":{"type":"string"},"minItems":1,"type":"array"}`)
	require.Contains(t, doc, `"name":"page_token","schema":{"type":"string"}`)
}
