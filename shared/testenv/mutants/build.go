package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// build compiles the package's tests once for all mutants of its functions. Each is a copy of the function, with a name of its own; the
// function itself calls the copy whose number is in the variable MUTANT. Building takes most of the time that a mutant would take
// otherwise. A mutant's number is its index plus one, its verdict is [invalid] if it does not compile, and [alone] if it is not in the
// program, because it is outside of functions. Its home is the function that it changes, as the program calls it in the file whose path is
// in the variable MUTANT_CALLS.
func (p pkg) build(ctx context.Context, dir string, all []mutation) (program string, verdicts []verdict, homes []string, err error) {
	program = filepath.Join(dir, "program.test")
	verdicts, homes = make([]verdict, len(all)), make([]string, len(all))
	for {
		files := map[string]string{filepath.Join(p.dir, "mutants_switch.go"): fmt.Sprintf(chosen, p.name)}
		owners := map[string]int{} // of lines
		for _, name := range p.files {
			f, err := newSwitched(filepath.Join(p.dir, name))
			if err != nil {
				return "", nil, nil, err
			}
			for i, m := range all {
				if m.path == f.path && verdicts[i] == "" {
					if homes[i] = f.add(i, m); homes[i] == "" {
						verdicts[i] = alone
					}
				}
			}
			files[f.path] = f.text(owners)
		}
		overlay, err := writeOverlay(dir, files)
		if err != nil {
			return "", nil, nil, err
		}
		// -e: all errors at once. The flag adds to those of GOFLAGS.
		args := []string{"test", "-c", "-tags=integration", "-vet=off", "-gcflags=" + p.path + "=-e", "-o", program, "-overlay=" + overlay, p.path}
		output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput() //nolint:gosec // our own arguments
		if err == nil {
			return program, verdicts, homes, nil
		}
		found := false
		for _, match := range compileError.FindAllStringSubmatch(string(output), -1) {
			if i, ok := owners[match[1]]; ok {
				verdicts[i], found = invalid, true
			}
		}
		if !found {
			return "", nil, nil, fmt.Errorf("%s", output)
		}
	}
}

var compileError = regexp.MustCompile(`(?m)([^/\s]+\.go:\d+):\d+: `)

const chosen = `package %s

import (
	"os"
	"strconv"
	"sync"
)

var (
	mutantChosen   = func() int { n, _ := strconv.Atoi(os.Getenv("MUTANT")); return n }()
	mutantCalls, _ = os.OpenFile(os.Getenv("MUTANT_CALLS"), os.O_APPEND|os.O_WRONLY, 0)
	mutantCalled   sync.Map
)

func mutantIn(function string) int {
	if mutantCalls != nil {
		if _, known := mutantCalled.LoadOrStore(function, true); !known {
			_, _ = mutantCalls.WriteString(function + "\n")
		}
	}
	return mutantChosen
}
`

// switched is a source file whose functions call mutants of themselves.
type switched struct {
	path      string
	source    []byte
	offset    func(token.Pos) int
	functions []*ast.FuncDecl
	mutants   map[*ast.FuncDecl][]numbered
}

type numbered struct {
	index int
	mutation
}

func newSwitched(path string) (*switched, error) {
	source, err := os.ReadFile(path) //nolint:gosec // one of the module's own
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s := &switched{path, source, func(p token.Pos) int { return files.Position(p).Offset }, nil, map[*ast.FuncDecl][]numbered{}}
	for _, d := range parsed.Decls {
		// A copy is not called by the defer statement, so that it could not recover.
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && f.Name.Name != "init" && f.Name.Name != "main" && !recovers(f) {
			s.functions = append(s.functions, f)
		}
	}
	return s, nil
}

// recovers reports whether f itself calls recover.
func recovers(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			name, ok := n.Fun.(*ast.Ident)
			found = found || ok && name.Name == "recover"
		}
		return true
	})
	return found
}

// add returns the name of the function whose body has the mutation, "" if it is in none.
func (s *switched) add(index int, m mutation) (home string) {
	for _, f := range s.functions {
		if s.offset(f.Body.Lbrace) < m.from && m.to < s.offset(f.Body.End()) {
			s.mutants[f] = append(s.mutants[f], numbered{index, m})
			return s.name(f)
		}
	}
	return ""
}

// name returns a name of a function that no other one in the package has.
func (s *switched) name(f *ast.FuncDecl) string {
	return fmt.Sprintf("%s:%d %s", filepath.Base(s.path), s.offset(f.Pos()), f.Name.Name)
}

// text returns the file, and sets the owners of the lines of its mutants.
func (s *switched) text(owners map[string]int) string {
	var head, tail strings.Builder
	last, line := 0, 1+strings.Count(string(s.source), "\n")
	for _, f := range s.functions {
		mutants := s.mutants[f]
		if len(mutants) == 0 {
			continue
		}
		names, edits := parameters(f)
		for _, e := range edits {
			head.WriteString(string(s.source[last:s.offset(e.from)]) + e.text)
			last = s.offset(e.to)
		}
		from, name, end := s.offset(f.Pos()), s.offset(f.Name.End()), s.offset(f.End())
		body := s.offset(f.Body.Lbrace) + 1
		head.WriteString(string(s.source[last:body]) + " switch mutantIn(" + strconv.Quote(s.name(f)) + ") { ")
		last = body
		for _, m := range mutants {
			suffix := "Mutant" + strconv.Itoa(m.index+1)
			head.WriteString("case " + strconv.Itoa(m.index+1) + ": " + call(f, names, suffix) + "; ")
			one := "\n" + string(s.source[from:name]) + suffix + string(s.source[name:m.from]) + m.text + string(s.source[m.to:end])
			tail.WriteString(one)
			for range strings.Count(one, "\n") {
				line++
				owners[fmt.Sprintf("%s:%d", filepath.Base(s.path), line)] = m.index
			}
		}
		head.WriteString("}; ")
	}
	return head.String() + string(s.source[last:]) + tail.String() + "\n"
}

// edit is a change of the signature.
type edit struct {
	from, to token.Pos
	text     string
}

// parameters returns the names of the receiver and the parameters, and the edits that name those without a name.
func parameters(f *ast.FuncDecl) (names []string, edits []edit) {
	fields := f.Type.Params.List
	if f.Recv != nil {
		fields = slices.Concat(f.Recv.List, fields)
	}
	for _, field := range fields {
		dots := ""
		if _, ok := field.Type.(*ast.Ellipsis); ok {
			dots = "..."
		}
		if len(field.Names) == 0 {
			name := fmt.Sprint("param", len(names))
			names, edits = append(names, name+dots), append(edits, edit{field.Type.Pos(), field.Type.Pos(), name + " "})
		}
		for _, ident := range field.Names {
			name := ident.Name
			if name == "_" {
				name = fmt.Sprint("param", len(names))
				edits = append(edits, edit{ident.Pos(), ident.End(), name})
			}
			names = append(names, name+dots)
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	return names, edits
}

func call(f *ast.FuncDecl, names []string, suffix string) string {
	name := f.Name.Name + suffix
	if f.Recv != nil {
		name, names = names[0]+"."+name, names[1:]
	}
	if f.Type.TypeParams != nil {
		var types []string
		for _, field := range f.Type.TypeParams.List {
			for _, ident := range field.Names {
				types = append(types, ident.Name)
			}
		}
		name += "[" + strings.Join(types, ", ") + "]"
	}
	name += "(" + strings.Join(names, ", ") + ")"
	if f.Type.Results != nil {
		return "return " + name
	}
	return name + "; return"
}

// writeOverlay makes the compiler read texts in place of files.
func writeOverlay(dir string, files map[string]string) (path string, err error) {
	replace := map[string]string{}
	for name, text := range files {
		replace[name] = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(replace[name], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}
