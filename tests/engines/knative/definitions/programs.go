//go:build tidy

// Package definitions names the module that carries the definition of a type, apart from the others:
// together with them it would raise the versions of half of what they are built from.
package definitions

import _ "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/client/crds/v2"
