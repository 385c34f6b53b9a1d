// A program that loads the plugin that its first argument names, says so, has its function Work do something, and waits
// for the end of its standard input.
package main

import (
	"fmt"
	"io"
	"os"
	"plugin"
)

func main() {
	loaded, err := plugin.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	work, err := loaded.Lookup("Work")
	if err != nil {
		panic(err)
	}
	work.(func(int))(10)
	fmt.Println("loaded")
	io.Copy(io.Discard, os.Stdin)
}
