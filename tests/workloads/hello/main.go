// Hello: the smallest program that does something.
package main

import "fmt"

func main() { fmt.Println("hello") }
