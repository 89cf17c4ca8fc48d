// Command ingress is the way to Knative Services on a node to which no proxy server can be brought.
//
// Knative leaves the way from a host name to a revision to a component of one's choice. Without one no
// Service ever becomes ready, and no sink can be resolved. This one does what that contract asks for
// inside one cluster: hosts, paths, headers that must match, weights, headers that are added. It speaks
// HTTP/1.1 without TLS, keeps streams flowing, and holds all routes in memory.
package main

import (
	"context"
	"errors"
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	networking "knative.dev/networking/pkg/apis/networking"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
	"knative.dev/networking/pkg/client/clientset/versioned"
	informers "knative.dev/networking/pkg/client/informers/externalversions"
	listers "knative.dev/networking/pkg/client/listers/networking/v1alpha1"
)

const (
	class = "integr8s.ingress.networking.knative.dev"
	// Where names of Services lead to: the Service of this program.
	address = "ingress.knative-serving.svc.cluster.local"
	listen  = ":8080"
	health  = "/health/readiness.ingress"
)

// A table holds all routes as they are at one moment; it is replaced as a whole.
type table map[string][]v1alpha1.HTTPIngressPath

type ingress struct {
	client versioned.Interface
	lister listers.IngressLister
	routes atomic.Pointer[table]
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatalf("not in a pod with a service account: %v", err)
	}
	i := &ingress{client: versioned.NewForConfigOrDie(config)}
	i.watch(ctx)
	i.serve(ctx)
}

// watch keeps routes and states up to date from now on; it returns when both are complete once.
func (i *ingress) watch(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(i.client, time.Minute)
	ingresses := factory.Networking().V1alpha1().Ingresses()
	i.lister = ingresses.Lister()
	_, err := ingresses.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { i.changed(ctx, object) },
		UpdateFunc: func(_, object any) { i.changed(ctx, object) },
		DeleteFunc: func(any) { i.rebuild() },
	})
	if err != nil {
		log.Fatalf("cannot watch: %v", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	i.rebuild()
}

// changed takes a route over, and only then says that it works.
func (i *ingress) changed(ctx context.Context, object any) {
	one, ok := object.(*v1alpha1.Ingress)
	if !ok || !ours(one) {
		return
	}
	i.rebuild()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return i.confirm(ctx, one.Namespace, one.Name) })
	if err != nil {
		// Not lost: every minute all objects are looked at again.
		log.Printf("state of %s/%s not written: %v", one.Namespace, one.Name, err)
	}
}

func ours(one *v1alpha1.Ingress) bool {
	return one.Annotations[networking.IngressClassAnnotationKey] == class
}

func (i *ingress) rebuild() {
	all, err := i.lister.List(labels.Everything())
	if err != nil {
		log.Printf("routes not read: %v", err)
		return
	}
	routes := table{}
	for _, one := range all {
		if !ours(one) || one.DeletionTimestamp != nil {
			continue
		}
		for _, rule := range one.Spec.Rules {
			for _, host := range rule.Hosts {
				routes[host] = append(routes[host], rule.HTTP.Paths...)
			}
		}
	}
	i.routes.Store(&routes)
}

func (i *ingress) confirm(ctx context.Context, namespace, name string) error {
	api := i.client.NetworkingV1alpha1().Ingresses(namespace)
	one, err := api.Get(ctx, name, metav1.GetOptions{})
	if err != nil || one.DeletionTimestamp != nil {
		return err
	}
	known, err := i.lister.Ingresses(namespace).Get(name)
	if err != nil || known.Generation != one.Generation {
		return err // the newer one is on its way to us and will be confirmed then
	}
	before := one.Status.DeepCopy()
	here := []v1alpha1.LoadBalancerIngressStatus{{DomainInternal: address}}
	one.Status.InitializeConditions()
	one.Status.MarkNetworkConfigured()
	one.Status.MarkLoadBalancerReady(here, here)
	one.Status.ObservedGeneration = one.Generation
	if equality.Semantic.DeepEqual(before, &one.Status) {
		return nil
	}
	_, err = api.UpdateStatus(ctx, one, metav1.UpdateOptions{})
	return err
}

func (i *ingress) serve(ctx context.Context) {
	proxy := &httputil.ReverseProxy{
		Rewrite:       i.rewrite,
		Transport:     transport(),
		FlushInterval: -1, // every piece of a stream at once
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Printf("%s %s%s: %v", r.Method, r.Host, r.URL.Path, err)
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	server := &http.Server{Addr: listen, Handler: i.known(proxy), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// known refuses what has no route; what has one goes on.
func (i *ingress) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == health:
			w.WriteHeader(http.StatusOK)
		case i.path(r) == nil:
			http.Error(w, "no Knative Service has this host: "+r.Host, http.StatusNotFound)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (i *ingress) rewrite(r *httputil.ProxyRequest) {
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	r.SetXForwarded()
	path := i.path(r.In)
	if path == nil { // taken away since it was looked at
		r.Out.URL = &url.URL{Scheme: "http", Host: "gone.invalid"}
		return
	}
	split := choose(path.Splits)
	for _, added := range []map[string]string{path.AppendHeaders, split.AppendHeaders} {
		for name, value := range added {
			r.Out.Header.Set(name, value)
		}
	}
	r.Out.Host = r.In.Host
	if path.RewriteHost != "" {
		r.Out.Host = path.RewriteHost
	}
	r.Out.URL.Scheme = "http"
	name := split.ServiceName + "." + split.ServiceNamespace + ".svc.cluster.local"
	r.Out.URL.Host = net.JoinHostPort(name, split.ServicePort.String())
}

// path returns the first route that fits, as the contract says; nil where there is none.
func (i *ingress) path(r *http.Request) *v1alpha1.HTTPIngressPath {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	paths := (*i.routes.Load())[host]
	for n := range paths {
		if strings.HasPrefix(r.URL.Path, paths[n].Path) && matches(r.Header, paths[n].Headers) {
			return &paths[n]
		}
	}
	return nil
}

func matches(given http.Header, wanted map[string]v1alpha1.HeaderMatch) bool {
	for name, match := range wanted {
		if given.Get(name) != match.Exact {
			return false
		}
	}
	return true
}

func choose(splits []v1alpha1.IngressBackendSplit) v1alpha1.IngressBackendSplit {
	drawn := rand.Intn(100)
	for _, split := range splits {
		if drawn -= split.Percent; drawn < 0 {
			return split
		}
	}
	return splits[0] // a single one may leave its weight out
}

// transport has no limit on how long an answer takes: that is the revision's to decide.
func transport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		MaxIdleConnsPerHost: 100,
		// Short, because a kept connection goes on to the activator, or to a pod, after the Service
		// has been pointed at the other one.
		IdleConnTimeout:    2 * time.Second,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, dialer, network, address)
		},
	}
}

// dial tries again for a moment when it is refused: between the last endpoint of the old kind and the
// first of the new kind a Service has none, and nothing of the request has been sent yet.
func dial(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error) {
	for wait := 25 * time.Millisecond; ; wait *= 2 {
		connection, err := dialer.DialContext(ctx, network, address)
		if err == nil || !errors.Is(err, syscall.ECONNREFUSED) || wait > time.Second {
			return connection, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
