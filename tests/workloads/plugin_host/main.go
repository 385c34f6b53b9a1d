// Plugin_host: loads a plugin (-plugin, see plugin_pingpong) and has its function Work do the work. With -late the plugin
// is loaded when the work begins, otherwise before the first event.
package main

import (
	"flag"
	"fmt"
	"os"
	"plugin"

	"gmpscope.test/workloads/internal/control"
)

// work is the plugin's function; nil while the plugin is not loaded.
var work func(more func(n uint64) bool, add func(n uint64))

func load(path string) {
	p, err := plugin.Open(path)
	if err == nil {
		var found plugin.Symbol
		if found, err = p.Lookup("Work"); err == nil {
			work = found.(func(func(uint64) bool, func(uint64)))
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	path := flag.String("plugin", "", "the plugin")
	late := flag.Bool("late", false, "load it when the work begins")
	control.Main(control.Workload{
		Name: "plugin_host",
		Setup: func() map[string]interface{} {
			if !*late {
				load(*path)
			}
			return nil
		},
		Run: func(p *control.Phase) {
			if work == nil {
				load(*path)
			}
			work(p.More, control.NewCounter().Add)
		},
	})
}
