//go:build tidy

// Package knative names what is built from other modules. It is never compiled, because a program
// cannot be imported; it stands here so that `go mod tidy` finds what go.mod has to hold.
package knative

import (
	_ "knative.dev/operator/pkg/apis/operator" // its module carries the released manifests
	_ "knative.dev/serving/cmd/activator"
	_ "knative.dev/serving/cmd/autoscaler"
	_ "knative.dev/serving/cmd/controller"
	_ "knative.dev/serving/cmd/queue"
	_ "knative.dev/serving/cmd/webhook"
)
