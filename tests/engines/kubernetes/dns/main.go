// Command dns is the name server of the one-node cluster: CoreDNS with only the plugins it needs.
//
// The usual build carries every plugin there is, with the clients of three clouds; this one knows the
// cluster's services, and that no other name exists.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
