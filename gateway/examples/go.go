// Runs on every Go that integr8s offers; 1.21 and later show a little more.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
)

// The built-in clear came with 1.21. Older compilers refuse a program that has it, so it stands in
// a program of its own.
const newer = `package main

import "fmt"

func main() {
	ages := map[string]int{"ada": 36, "grace": 85}
	before := len(ages)
	clear(ages)
	fmt.Printf("clear: %d entries before, %d after\n", before, len(ages))
}
`

func main() {
	fmt.Println("Hello from Go", strings.TrimPrefix(runtime.Version(), "go"))

	words := strings.Fields("the quick brown fox jumps over the lazy dog")
	sort.SliceStable(words, func(i, j int) bool { return len(words[i]) > len(words[j]) })
	fmt.Println("longest words:", strings.Join(words[:3], ", "))

	var minor int
	fmt.Sscanf(runtime.Version(), "go1.%d", &minor)
	if minor < 21 {
		fmt.Println("The built-in clear needs Go 1.21; this is", runtime.Version()+".")
		return
	}
	file := os.TempDir() + "/newer.go"
	if err := os.WriteFile(file, []byte(newer), 0o600); err != nil {
		fmt.Println("The newer part could not be written:", err)
		return
	}
	command := exec.Command("go", "run", file)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		fmt.Println("The newer part could not be run:", err)
	}
}
