package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	gconstant "go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Sources are the parsed files of one GOROOT, whose packages are parsed once and checked dozens of times.
type Sources struct {
	fset  *token.FileSet
	files map[string]*ast.File
	// texts are the files of all folders that were imported, in lower case, including files that the
	// current build tags exclude.
	texts map[string]string
}

// enter reads the text of a folder's files.
func (s *Sources) enter(dir string, entries []os.DirEntry) error {
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if _, done := s.texts[path]; done || !strings.HasSuffix(path, ".go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.texts[path] = strings.ToLower(string(text))
	}
	return nil
}

func (s *Sources) parse(path string) (*ast.File, error) {
	if file := s.files[path]; file != nil {
		return file, nil
	}
	file, err := parser.ParseFile(s.fset, path, nil, parser.SkipObjectResolution)
	if err == nil {
		s.files[path] = file
	}
	return file, err
}

// Toolchain is a GOROOT, for one architecture.
type Toolchain struct {
	goroot, version, arch string
	sources               *Sources
	// defaults are the tool tags that its own go command sets, experiments among them.
	defaults, releases []string
	// experiments are all that it knows, in lower case.
	experiments []string
}

// open asks the toolchain for its default tags, which its internal/buildcfg computes for each architecture.
func open(goroot, arch string, sources *Sources) (*Toolchain, error) {
	version, err := versionOf(goroot)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(goroot, "bin", "go"), "list", "-f",
		`{{join context.ToolTags " "}};{{join context.ReleaseTags " "}}`, "runtime")
	// The rest of the environment is as `cargo xtask layouts` has set it: nothing is fetched, nothing is the user's.
	cmd.Env = append(os.Environ(), "GOROOT="+goroot, "GO111MODULE=off", "GOEXPERIMENT=", "GOOS=linux", "GOARCH="+arch)
	cmd.Dir = goroot
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	tools, releases, ok := strings.Cut(strings.TrimSpace(string(out)), ";")
	if !ok {
		return nil, fmt.Errorf("go list printed %q", out)
	}
	tc := &Toolchain{goroot: goroot, version: version, arch: arch, sources: sources,
		defaults: strings.Fields(tools), releases: strings.Fields(releases)}
	tc.experiments, err = experiments(goroot)
	return tc, err
}

// experiments are the fields of internal/goexperiment.Flags.
func experiments(goroot string) ([]string, error) {
	path := filepath.Join(goroot, "src/internal/goexperiment/flags.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Flags" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range field.Names {
				names = append(names, strings.ToLower(name.Name))
			}
		}
		return false
	})
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no experiments in type Flags", path)
	}
	return names, nil
}

// flips are all experiments as "X:" names them when they differ from the default.
func (tc *Toolchain) flips() []string {
	var flips []string
	for _, name := range tc.experiments {
		if slices.Contains(tc.defaults, "goexperiment."+name) {
			name = "no" + name
		}
		flips = append(flips, name)
	}
	slices.Sort(flips)
	return flips
}

// mentioned reports whether a file of package runtime or of its imports mentions an experiment, in a build
// constraint or as a constant. Package goexperiment, which declares all of them, does not count.
func (tc *Toolchain) mentioned(flip string) bool {
	names := []string{"goexperiment." + flip}
	if off, isOff := strings.CutPrefix(flip, "no"); isOff {
		names = append(names, "goexperiment."+off)
	}
	for path, text := range tc.sources.texts {
		if strings.HasSuffix(filepath.Dir(path), "internal/goexperiment") {
			continue
		}
		for _, name := range names {
			if strings.Contains(text, name) {
				return true
			}
		}
	}
	return false
}

// layout type-checks package runtime with these experiments flipped and these build tags set.
func (tc *Toolchain) layout(fields []Field, flips, tags []string) (map[string]int64, error) {
	tools := slices.Clone(tc.defaults)
	for _, flip := range flips {
		off, isOff := strings.CutPrefix(flip, "no")
		if isOff && slices.Contains(tools, "goexperiment."+off) {
			tools = slices.DeleteFunc(tools, func(tag string) bool { return tag == "goexperiment."+off })
		} else {
			tools = append(tools, "goexperiment."+flip)
		}
	}
	checker := &checker{
		ctx: build.Context{GOARCH: tc.arch, GOOS: "linux", GOROOT: tc.goroot, Compiler: "gc",
			CgoEnabled: slices.Contains(tags, "cgo"), ToolTags: tools, ReleaseTags: tc.releases, BuildTags: tags},
		sources:  tc.sources,
		sizes:    types.SizesFor("gc", tc.arch),
		packages: map[string]*types.Package{"unsafe": types.Unsafe},
	}
	pkg, err := checker.Import("runtime")
	if err != nil {
		return nil, err
	}
	offsets := map[string]int64{}
	for _, field := range fields {
		found := false
		for _, path := range field.Paths {
			if at, ok := resolve(pkg, checker.sizes, path); ok {
				offsets[field.Name] = at
				found = true
				break
			}
		}
		if !found && field.Required {
			return nil, fmt.Errorf("no field %s, by none of its names %v", field.Name, field.Paths)
		}
	}
	return offsets, nil
}

// checker imports packages of one GOROOT from source.
type checker struct {
	ctx      build.Context
	sources  *Sources
	sizes    types.Sizes
	packages map[string]*types.Package
}

// Import implements types.Importer.
func (c *checker) Import(path string) (*types.Package, error) {
	if pkg := c.packages[path]; pkg != nil {
		return pkg, nil
	}
	dir := filepath.Join(c.ctx.GOROOT, "src", path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if err := c.sources.enter(dir, entries); err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if match, err := c.ctx.MatchFile(dir, name); err != nil {
			return nil, err
		} else if !match {
			continue
		}
		file, err := c.sources.parse(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	var errs []error
	config := types.Config{Importer: c, Sizes: c.sizes, IgnoreFuncBodies: true,
		Error: func(err error) { errs = append(errs, err) }}
	pkg, _ := config.Check(path, c.sources.fset, files, nil)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.packages[path] = pkg
	return pkg, nil
}

// resolve follows a path such as "schedt.runq.head" to its offset, "g.sizeof" to a size, "p.runq.len" to
// the length of an array, "timeHistMinBucketBits" to a constant. Embedded structs are stepped into by their type's name, as Go does.
func resolve(pkg *types.Package, sizes types.Sizes, path string) (int64, bool) {
	names := strings.Split(path, ".")
	object := pkg.Scope().Lookup(names[0])
	if object == nil {
		return 0, false
	}
	if constant, ok := object.(*types.Const); ok && len(names) == 1 {
		value, exact := gconstant.Int64Val(constant.Val())
		return value, exact
	}
	at, current := int64(0), object.Type()
	for _, name := range names[1:] {
		switch t := current.Underlying().(type) {
		case *types.Struct:
			if name == "sizeof" {
				return sizes.Sizeof(t), true
			}
			vars := make([]*types.Var, t.NumFields())
			index := -1
			for i := range vars {
				vars[i] = t.Field(i)
				if vars[i].Name() == name {
					index = i
				}
			}
			if index < 0 {
				return 0, false
			}
			at += sizes.Offsetsof(vars)[index]
			current = vars[index].Type()
		case *types.Array:
			return t.Len(), name == "len"
		default:
			return 0, false
		}
	}
	return at, true
}
