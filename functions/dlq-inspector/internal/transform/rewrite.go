package transform

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// Functions of the machine. Their names are none that a program can write.
const (
	fnBinary   = "binary operator" // (left; right; operator; text)
	fnNumber   = "number"          // of a text
	fnDate     = "date"            // of seconds since 1970
	fnGuarded  = "guarded"
	fnWhole    = "whole"
	fnSized    = "sized"
	fnPosition = "position"
	fnFromJSON = "from JSON"
)

// prelude defines functions of jq with exact operators. They come before the program, so it can define its own.
const prelude = `
	def tonumber: "number";
	def fromjson: "from JSON";
	def todateiso8601: "date";
	def todate: todateiso8601;
	def add: reduce .[] as $x (null; . + $x);
	def add(f): reduce f as $x (null; . + $x);
	def abs: if . < 0 then -. else . end;
	def fabs: abs;
	.`

// maxDepth limits how deep the tree of a program is. A program of brackets alone would take seconds to compile.
const maxDepth = 1000

// rewriter changes the tree of a program in place.
type rewriter struct {
	depth   int
	defined []map[string]bool // functions of the program itself, with their parameters
	err     error
}

// rewrite puts exact operators and functions in place of those of jq.
func rewrite(program *gojq.Query) (*gojq.Query, error) {
	if len(program.Imports) > 0 || program.Meta != nil {
		return nil, invalid("there are no modules")
	}
	own, err := gojq.Parse(prelude)
	if err != nil {
		return nil, err
	}
	for _, def := range own.FuncDefs[:3] { // a text stands for a function of the machine
		def.Body = call(def.Body.Term.Str.Str)
	}
	program.FuncDefs = append(own.FuncDefs, program.FuncDefs...)
	r := &rewriter{}
	r.walk(reflect.ValueOf(program))
	if program.Term == nil && program.Right == nil {
		program.Term = &gojq.Term{Type: gojq.TermTypeIdentity} // a program of definitions only
	}
	return program, r.err
}

// walk visits everything below v, then v.
func (r *rewriter) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			r.walk(v.Index(i))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		r.visit(v)
	default:
	}
}

func (r *rewriter) visit(v reflect.Value) {
	if r.depth++; r.depth > maxDepth && r.err == nil {
		r.err = invalid("it is nested too deeply")
	}
	defer func() { r.depth-- }()
	if r.err != nil {
		return
	}
	text := ""
	var parts []string // of a text
	switch node := v.Interface().(type) {
	case *gojq.Query:
		expression := *node
		expression.FuncDefs = nil
		text = shortened(expression.String()) // before it is changed
		scope := map[string]bool{}
		for _, def := range node.FuncDefs {
			scope[fmt.Sprint(def.Name, "/", len(def.Args))] = true
		}
		r.defined = append(r.defined, scope)
		defer func() { r.defined = r.defined[:len(r.defined)-1] }()
	case *gojq.FuncDef:
		scope := map[string]bool{}
		for _, arg := range node.Args {
			scope[strings.TrimPrefix(arg, "$")+"/0"] = true
		}
		r.defined = append(r.defined, scope)
		defer func() { r.defined = r.defined[:len(r.defined)-1] }()
	case *gojq.Term:
		text = shortened(node.String())
	case *gojq.String:
		for _, q := range node.Queries {
			parts = append(parts, shortened(q.String()))
		}
	}
	for i := range v.Elem().NumField() {
		r.walk(v.Elem().Field(i))
	}
	switch node := v.Interface().(type) {
	case *gojq.Query:
		query(node, text)
	case *gojq.Term:
		r.term(node, text)
	case *gojq.String:
		for i, q := range node.Queries {
			if q.Term != nil && q.Term.Str == nil { // not a part of the text itself
				*q = *sequence(q, call(fnSized, literal(parts[i])))
			}
		}
	case *gojq.Index:
		node.Start, node.End = position(node.Start), position(node.End)
	}
}

// exactOperators are those whose operands may be numbers, with those that update.
var exactOperators = map[gojq.Operator]gojq.Operator{
	gojq.OpAdd: gojq.OpAdd, gojq.OpSub: gojq.OpSub, gojq.OpMul: gojq.OpMul, gojq.OpDiv: gojq.OpDiv, gojq.OpMod: gojq.OpMod,
	gojq.OpEq: gojq.OpEq, gojq.OpNe: gojq.OpNe, gojq.OpGt: gojq.OpGt, gojq.OpLt: gojq.OpLt, gojq.OpGe: gojq.OpGe, gojq.OpLe: gojq.OpLe,
	gojq.OpUpdateAdd: gojq.OpAdd, gojq.OpUpdateSub: gojq.OpSub, gojq.OpUpdateMul: gojq.OpMul, gojq.OpUpdateDiv: gojq.OpDiv, gojq.OpUpdateMod: gojq.OpMod,
}

// query replaces an operator: l + r is a call, and l += r is r as $x | l |= (. + $x).
func query(q *gojq.Query, text string) {
	op, exact := exactOperators[q.Op]
	if !exact || len(q.Patterns) > 0 {
		return
	}
	defs, left, right := q.FuncDefs, q.Left, q.Right
	if op == q.Op {
		*q = *call(fnBinary, left, right, literal(op.String()), literal(text))
	} else {
		const variable = "$update operand" // no program's own
		operand := call(variable)
		*q = gojq.Query{Left: right, Op: gojq.OpPipe, Patterns: []*gojq.Pattern{{Name: variable}}, Right: &gojq.Query{
			Left: left, Op: gojq.OpModify, Right: call(fnBinary, identity(), operand, literal(op.String()), literal(text)),
		}}
	}
	q.FuncDefs = defs
}

// term replaces calls of functions, numbers with digits that would be lost, and formats.
func (r *rewriter) term(t *gojq.Term, text string) {
	plain := *t
	plain.SuffixList = nil
	switch t.Type {
	case gojq.TermTypeFunc:
		r.function(t, &plain, strings.TrimSpace(text))
	case gojq.TermTypeNumber:
		if len(t.Number) > 15 || strings.ContainsAny(t.Number, ".eE") {
			replace(t, sequence(literal(t.Number), call(fnNumber)))
		}
	case gojq.TermTypeFormat:
		if t.Str == nil {
			replace(t, sequence(call(fnSized, literal(t.Format)), &gojq.Query{Term: &plain}))
		}
	default:
	}
}

func (r *rewriter) function(t, plain *gojq.Term, text string) {
	f := t.Func
	if strings.Contains(f.Name, " ") || f.Name == fnNumber || f.Name == fnDate { // the machine's own
		return
	}
	if strings.HasPrefix(f.Name, "$") {
		if f.Name == "$ENV" || f.Name == "$__prog_args" {
			r.unknown(f.Name)
		}
		return
	}
	name := fmt.Sprint(f.Name, "/", len(f.Args))
	if slices.ContainsFunc(r.defined, func(scope map[string]bool) bool { return scope[name] }) && cares()[name] == none {
		return
	}
	c, ok := cares()[name]
	if !ok {
		r.unknown(name)
		return
	}
	if c == placed {
		f.Args[0] = position(f.Args[0])
	}
	check := map[care]string{guarded: fnGuarded, whole: fnWhole, counted: fnWhole, sized: fnSized}[c]
	if check == "" {
		return
	}
	guard := func() *gojq.Query { return call(check, literal(text)) }
	for i, arg := range f.Args {
		f.Args[i] = sequence(arg, guard())
	}
	if c != counted {
		replace(t, sequence(guard(), &gojq.Query{Term: plain}))
	}
}

func (r *rewriter) unknown(name string) {
	if r.err == nil {
		r.err = invalid("%s is not defined here: a transform has only functions of the value that keep all digits", name)
	}
}

// position guards an index that may be written to.
func position(q *gojq.Query) *gojq.Query {
	if q == nil {
		return nil
	}
	return sequence(q, call(fnPosition))
}

// replace makes a term stand for a query, with the same suffixes.
func replace(t *gojq.Term, q *gojq.Query) {
	*t = gojq.Term{Type: gojq.TermTypeQuery, Query: q, SuffixList: t.SuffixList}
}

func call(name string, args ...*gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name, Args: args}}}
}

func literal(text string) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeString, Str: &gojq.String{Str: text}}}
}

func identity() *gojq.Query { return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeIdentity}} }

// sequence is (first | then).
func sequence(first, then *gojq.Query) *gojq.Query {
	inner := *first
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: &gojq.Query{Left: &inner, Op: gojq.OpPipe, Right: then}}}
}
