//go:build tidy

// Package eventing names what is built from other modules. It is never compiled, because a program
// cannot be imported; it stands here so that `go mod tidy` finds what go.mod has to hold.
package eventing

import (
	_ "knative.dev/eventing/cmd/broker/filter"
	_ "knative.dev/eventing/cmd/broker/ingress"
	_ "knative.dev/eventing/cmd/controller"
	_ "knative.dev/eventing/cmd/in_memory/channel_controller"
	_ "knative.dev/eventing/cmd/in_memory/channel_dispatcher"
	_ "knative.dev/eventing/cmd/mtchannel_broker"
	_ "knative.dev/eventing/cmd/mtping"
	_ "knative.dev/eventing/cmd/webhook"
	_ "knative.dev/operator/pkg/apis/operator" // its module carries the released manifests
)
