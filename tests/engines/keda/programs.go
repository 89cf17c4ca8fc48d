//go:build tidy

package main

// What the build turns into packages (see main.go), named where `go mod tidy` finds it: that is how
// go.mod and go.sum come to hold all that these programs need.
import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
	_ "github.com/kedacore/keda/v2/cmd/webhooks"
)
