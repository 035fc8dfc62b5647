package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutation is one change of a source file: the bytes between from and to become text.
type mutation struct {
	path     string
	source   []byte
	line     int
	from, to int
	text     string
}

func (m mutation) applied() []byte {
	return slices.Concat(m.source[:m.from], []byte(m.text), m.source[m.to:])
}

// String shows the place and the change on one line, and not all of it if it is long.
func (m mutation) String() string {
	brief := func(text string) string {
		runes := []rune(strings.Join(strings.Fields(text), " "))
		return string(runes[:min(len(runes), 70)])
	}
	return fmt.Sprintf("%s:%d  `%s` → `%s`", filepath.Base(m.path), m.line, brief(string(m.source[m.from:m.to])), brief(m.text))
}

var operators = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.EQL: "!=", token.NEQ: "==",
	token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*",
}

// script matches a literal that Postgres or Redis executes.
var script = regexp.MustCompile(`(?is)\b(select|insert|update|delete)\b.*\b(from|into|set|where)\b|redis\.p?call`)

// clauses are the changes of such a literal: what is found, and what it becomes.
var clauses = map[*regexp.Regexp]string{
	regexp.MustCompile(`\s+skip locked`):                           "",
	regexp.MustCompile(`\s+for update( of \w+)?( skip locked)?`):   "",
	regexp.MustCompile(`\s+order by [\w., ]+`):                     " ",
	regexp.MustCompile(`\s+limit \$?\d+`):                          "",
	regexp.MustCompile(`\s+desc\b`):                                "",
	regexp.MustCompile(` [+-] (interval '[^']+'|\$\d+::interval)`): "",
	regexp.MustCompile(` < `):                                      " <= ",
	regexp.MustCompile(` > `):                                      " >= ",
	regexp.MustCompile(` <= `):                                     " < ",
	regexp.MustCompile(` >= `):                                     " > ",
	regexp.MustCompile(` and `):                                    " or ",
	regexp.MustCompile(` or `):                                     " and ",
}

// passing matches functions whose first argument can stand for the call.
var passing = regexp.MustCompile(`(^|\.)(WithoutCancel|LimitReader|min|max)$`)

// silent matches calls that tests need not notice: logs, spans, texts of metrics, and what only frees resources early.
var silent = regexp.MustCompile(`^(defer )?([\w.]+\.)?([lL]og\.\w+|span\.\w+|metric\.Describe|cancel|Close|Stop)\(`)

// mutationsOf returns every mutation of a source file. Some of them do not compile.
func mutationsOf(path string) (found []mutation, err error) {
	source, err := os.ReadFile(path) //nolint:gosec // one of the module's own
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	offset := func(p token.Pos) int { return files.Position(p).Offset }
	text := func(n ast.Node) string { return string(source[offset(n.Pos()):offset(n.End())]) }
	replace := func(from, to token.Pos, with string) {
		found = append(found, mutation{path, source, files.Position(from).Line, offset(from), offset(to), with})
	}
	leaveOut := func(list []ast.Expr) {
		for i := range len(list) - 1 {
			replace(list[i].Pos(), list[i+1].Pos(), "")
		}
		if last := len(list) - 1; last > 0 {
			replace(list[last-1].End(), list[last].End(), "")
		}
	}
	removeStatements := func(list []ast.Stmt) {
		for _, s := range list {
			switch s := s.(type) {
			case *ast.IncDecStmt, *ast.GoStmt, *ast.SendStmt, *ast.BranchStmt:
			case *ast.ExprStmt, *ast.DeferStmt:
				if silent.MatchString(text(s)) {
					continue
				}
			case *ast.AssignStmt:
				if s.Tok == token.DEFINE {
					continue
				}
			default:
				continue
			}
			replace(s.Pos(), s.End(), "")
		}
	}
	tables := tablesOf(parsed)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if tables[n] {
			return false
		}
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if other, ok := operators[n.Op]; ok {
				replace(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), other)
			}
			if n.Op == token.LAND || n.Op == token.LOR { // one condition alone
				replace(n.X.End(), n.End(), "")
				replace(n.Pos(), n.Y.Pos(), "")
			}
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				replace(n.OpPos, n.X.Pos(), "")
			}
		case *ast.IfStmt:
			replace(n.Cond.Pos(), n.Cond.End(), "false && ("+text(n.Cond)+")")
			replace(n.Cond.Pos(), n.Cond.End(), "true || ("+text(n.Cond)+")")
		case *ast.BasicLit:
			if n.Kind == token.INT {
				replace(n.Pos(), n.End(), "("+n.Value+" + 1)")
			} else if n.Kind == token.STRING && script.MatchString(n.Value) {
				for find, with := range clauses {
					for _, at := range find.FindAllStringIndex(n.Value, -1) {
						replace(n.Pos()+token.Pos(at[0]), n.Pos()+token.Pos(at[1]), with)
					}
				}
			}
		case *ast.CallExpr:
			if len(n.Args) > 0 && passing.MatchString(text(n.Fun)) {
				replace(n.Pos(), n.End(), text(n.Args[0]))
			}
		case *ast.CompositeLit:
			leaveOut(n.Elts)
		case *ast.CaseClause:
			leaveOut(n.List)
			removeStatements(n.Body)
		case *ast.CommClause:
			removeStatements(n.Body)
		case *ast.BlockStmt:
			removeStatements(n.List)
		}
		return true
	})
	// A map's order is random: the seed alone must choose.
	slices.SortFunc(found, func(a, b mutation) int { return cmp.Or(a.from-b.from, a.to-b.to, strings.Compare(a.text, b.text)) })
	return found, nil
}

// tablesOf returns the literals of variables that have literals as elements. They are data, such as texts of the documentation: a test
// could only repeat them.
func tablesOf(file *ast.File) map[ast.Node]bool {
	tables := map[ast.Node]bool{}
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok {
			ast.Inspect(g, func(n ast.Node) bool {
				if table, ok := n.(*ast.CompositeLit); ok && len(table.Elts) > 0 {
					_, tables[table] = table.Elts[0].(*ast.CompositeLit)
				}
				return true
			})
		}
	}
	return tables
}
