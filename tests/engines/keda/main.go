// Command keda holds KEDA's three programs in one file.
//
// They share nearly all their code, so one binary takes a third of the space and of the linking.
// Which program runs is decided by the name it was started under. The packages below are made by the
// build out of the module's own programs: Go refuses to import a program, so each gets another
// package name, and its main function a capital letter.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"integr8s/tests/engines/keda/adapter"
	"integr8s/tests/engines/keda/operator"
	"integr8s/tests/engines/keda/webhooks"
)

var programs = map[string]func(){
	"keda":                    operator.Main,
	"keda-adapter":            adapter.Main,
	"keda-admission-webhooks": webhooks.Main,
}

func main() {
	name := filepath.Base(os.Args[0])
	program, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%s: start me under the name of a KEDA program\n", name)
		os.Exit(2)
	}
	program()
}
