package conformance_test

import (
	"context"
	"sync"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// Who writes onto routes in our mesh.
const controller = "istio.io/gateway-controller"

// The service that stands for every gateway.
var service = types.NamespacedName{Namespace: suite.InfrastructureNamespace, Name: "front"}

// front is a cluster as tests of gateways know it: routes that are written for a gateway are attached to the service, and
// what is said of them there is read as said of the gateway, which is made up.
type front struct {
	client.Client
	address string
	lock    sync.Mutex
	parents map[types.NamespacedName]gateway.ParentReference
}

func newFront(t *testing.T, cluster client.Client) *front {
	var it core.Service
	if err := cluster.Get(t.Context(), service, &it); err != nil {
		t.Fatal(err)
	}
	return &front{Client: cluster, address: it.Spec.ClusterIP, parents: map[types.NamespacedName]gateway.ParentReference{}}
}

func (f *front) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	return f.Client.Create(ctx, f.attached(object), options...)
}

func (f *front) Update(ctx context.Context, object client.Object, options ...client.UpdateOption) error {
	return f.Client.Update(ctx, f.attached(object), options...)
}

func (f *front) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if it, ok := object.(*gateway.Gateway); ok {
		*it = f.gateway(key)
		return nil
	}
	if err := f.Client.Get(ctx, key, object, options...); err != nil {
		return err
	}
	switch it := object.(type) {
	case *gateway.HTTPRoute:
		f.tell(key, &it.Status.RouteStatus)
	case *gateway.GRPCRoute:
		f.tell(key, &it.Status.RouteStatus)
	}
	return nil
}

// Attaches a manifest's route to the service, and remembers to what it was attached.
func (f *front) attached(object client.Object) client.Object {
	it, ok := object.(*unstructured.Unstructured)
	if !ok || (it.GetKind() != "HTTPRoute" && it.GetKind() != "GRPCRoute") {
		return object
	}
	list, _, _ := unstructured.NestedSlice(it.Object, "spec", "parentRefs")
	if len(list) != 1 {
		panic(it.GetName() + " is not attached to one gateway")
	}
	name, _, _ := unstructured.NestedString(list[0].(map[string]any), "name")
	f.lock.Lock()
	f.parents[client.ObjectKeyFromObject(it)] = gateway.ParentReference{Name: gateway.ObjectName(name)}
	f.lock.Unlock()
	parent := map[string]any{"group": "", "kind": "Service", "name": service.Name, "namespace": service.Namespace}
	if err := unstructured.SetNestedSlice(it.Object, []any{parent}, "spec", "parentRefs"); err != nil {
		panic(err)
	}
	return it
}

// Reads what is said of a route as said of its gateway. What is attached to something else stays as it is, and is then
// not what a test waits for.
func (f *front) tell(route types.NamespacedName, status *gateway.RouteStatus) {
	f.lock.Lock()
	parent, known := f.parents[route]
	f.lock.Unlock()
	if !known {
		return
	}
	group, kind := gateway.Group(gateway.GroupName), gateway.Kind("Gateway")
	parent.Group, parent.Kind = &group, &kind
	for i := range status.Parents {
		if string(status.Parents[i].ParentRef.Name) == service.Name {
			status.Parents[i].ParentRef = parent
		}
	}
}

func (f *front) gateway(key types.NamespacedName) gateway.Gateway {
	yes := func(kinds ...string) (all []meta.Condition) {
		for _, kind := range kinds {
			all = append(all, meta.Condition{Type: kind, Status: meta.ConditionTrue, Reason: kind, ObservedGeneration: 1})
		}
		return all
	}
	kind := gateway.IPAddressType
	return gateway.Gateway{
		ObjectMeta: meta.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Generation: 1},
		Spec:       gateway.GatewaySpec{Listeners: []gateway.Listener{{Name: "http", Port: 80, Protocol: gateway.HTTPProtocolType}}},
		Status: gateway.GatewayStatus{
			Addresses:  []gateway.GatewayStatusAddress{{Type: &kind, Value: f.address}},
			Conditions: yes("Accepted", "Programmed"),
			Listeners:  []gateway.ListenerStatus{{Name: "http", Conditions: yes("Accepted", "Programmed", "ResolvedRefs")}},
		},
	}
}
