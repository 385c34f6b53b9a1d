// Layouts prints the offsets of fields of the Go runtime's structs as JSON, for each given GOROOT,
// architecture and set of experiments. It type-checks the sources of package runtime: every layout is
// computed as the compiler does (types.SizesFor("gc")) from the source that the toolchain compiles.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Field is one line of the list of fields: its name in gmpscope, and its paths in different Go versions.
type Field struct {
	Name     string
	Paths    []string
	Required bool
}

// Result has the layouts of one GOROOT for one architecture.
type Result struct {
	// Go is the first line of its VERSION file without "go".
	Go   string `json:"go"`
	Arch string `json:"arch"`
	// Neutral are the experiments that move no field; NeutralTags are the other build tags that move none.
	Neutral     []string `json:"neutral"`
	NeutralTags []string `json:"neutral_tags"`
	// MovingTags are build tags that move fields; binaries that are built with one are not in the table.
	MovingTags []string `json:"moving_tags"`
	// Layouts has the offsets by field, for each set of experiments that moves one; the key is what follows
	// "X:" in a version, joined by commas.
	Layouts map[string]map[string]int64 `json:"layouts"`
}

func main() {
	fieldsPath := flag.String("fields", "", "the list of fields")
	archs := flag.String("archs", "", "the architectures, by their GOARCH, separated by commas")
	flag.Parse()
	if *fieldsPath == "" || *archs == "" || flag.NArg() == 0 {
		fatal(fmt.Errorf("usage: layouts -archs GOARCH,... -fields FILE GOROOT..."))
	}
	fields, err := readFields(*fieldsPath)
	if err != nil {
		fatal(err)
	}
	results := []*Result{}
	for _, goroot := range flag.Args() {
		sources := &Sources{token.NewFileSet(), map[string]*ast.File{}, map[string]string{}}
		for _, arch := range strings.Split(*archs, ",") {
			result, err := examine(goroot, arch, sources, fields)
			if err != nil {
				fatal(fmt.Errorf("%s, %s: %w", goroot, arch, err))
			}
			results = append(results, result)
		}
		fmt.Fprintln(os.Stderr, "layouts:", results[len(results)-1].Go)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	if err := out.Encode(results); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "layouts:", err)
	os.Exit(1)
}

func readFields(path string) ([]Field, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var fields []Field
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		name, required := strings.CutPrefix(words[0], "!")
		if len(words) < 2 {
			return nil, fmt.Errorf("%s: %s has no path", path, name)
		}
		fields = append(fields, Field{name, words[1:], required})
	}
	return fields, nil
}

// otherTags are build tags that the default build does not set and package runtime has files for.
var otherTags = []string{"cgo", "race", "msan", "asan", "debuglog", "faketime", "purego", "boringcrypto"}

// examine lays out the structs of one toolchain for one architecture, with every experiment flipped.
func examine(goroot, arch string, sources *Sources, fields []Field) (*Result, error) {
	tc, err := open(goroot, arch, sources)
	if err != nil {
		return nil, err
	}
	base, err := tc.layout(fields, nil, nil)
	if err != nil {
		return nil, err
	}
	result := &Result{Go: tc.version, Arch: arch, Neutral: []string{}, NeutralTags: []string{}, MovingTags: []string{},
		Layouts: map[string]map[string]int64{"": base}}
	var movers []string
	for _, experiment := range tc.flips() {
		// Experiments that no source mentions are flipped only below, all at once.
		if !tc.mentioned(experiment) {
			result.Neutral = append(result.Neutral, experiment)
			continue
		}
		moved, err := tc.layout(fields, []string{experiment}, nil)
		if err != nil {
			return nil, fmt.Errorf("X:%s: %w", experiment, err)
		}
		if equal(base, moved) {
			result.Neutral = append(result.Neutral, experiment)
		} else {
			movers = append(movers, experiment)
		}
	}
	// Experiments may move a field only together: all subsets of the movers are laid out, and each once more
	// with all neutral ones flipped, too.
	for set := 0; set < 1<<len(movers); set++ {
		var chosen []string
		for i, experiment := range movers {
			if set&(1<<i) != 0 {
				chosen = append(chosen, experiment)
			}
		}
		layout, err := tc.layout(fields, chosen, nil)
		if err != nil {
			return nil, fmt.Errorf("X:%v: %w", chosen, err)
		}
		both, err := tc.layout(fields, append(slices.Clone(chosen), result.Neutral...), nil)
		if err != nil {
			return nil, fmt.Errorf("X:%v with all neutral ones: %w", chosen, err)
		}
		if !equal(layout, both) {
			return nil, fmt.Errorf("X:%v and all neutral experiments together move a field, which neither does alone", chosen)
		}
		result.Layouts[strings.Join(chosen, ",")] = layout
	}
	for _, tag := range otherTags {
		moved, err := tc.layout(fields, nil, []string{tag})
		if err != nil {
			return nil, fmt.Errorf("-tags %s: %w", tag, err)
		}
		if equal(base, moved) {
			result.NeutralTags = append(result.NeutralTags, tag)
		} else {
			result.MovingTags = append(result.MovingTags, tag)
		}
	}
	return result, nil
}

func equal(a, b map[string]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// versionOf reads the VERSION file: "go1.25.5" and, from 1.21 on, a line with its time.
func versionOf(goroot string) (string, error) {
	data, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	version, ok := strings.CutPrefix(strings.TrimSpace(line), "go")
	if !ok {
		return "", fmt.Errorf("its VERSION says %q, which is not a release", line)
	}
	return version, nil
}
