package conformance_test

import (
	"io/fs"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Tests of gateways that say as much of a mesh. Those of meshes compare neither paths, hosts nor locations, and there are
// none of copies, time limits, cross-origin requests, other protocols, and broken references. Left out is what only a
// gateway has: listeners, hostnames, certificates, grants.
var twins = []string{
	"GRPCExactMethodMatching",
	"GRPCRouteHeaderMatching",
	"GRPCRouteNamedRule",
	"GRPCRouteWeight",
	"HTTPRoute303Redirect",
	"HTTPRoute307Redirect",
	"HTTPRoute308Redirect",
	"HTTPRouteBackendProtocolH2C",
	"HTTPRouteBackendProtocolWebSocket",
	"HTTPRouteBackendRequestHeaderModifier",
	"HTTPRouteCORS",
	"HTTPRouteExactPathMatching",
	"HTTPRouteHeaderMatching",
	"HTTPRouteInvalidBackendRefUnknownKind",
	"HTTPRouteInvalidNonExistentBackendRef",
	"HTTPRouteMatching",
	"HTTPRouteMethodMatching",
	"HTTPRouteNamedRule",
	"HTTPRouteNoBackendRefs",
	"HTTPRouteObservedGenerationBump",
	"HTTPRoutePathMatchOrder",
	"HTTPRouteQueryParamMatching",
	"HTTPRouteRedirectHostAndStatus",
	"HTTPRouteRedirectPath",
	"HTTPRouteRedirectPort",
	"HTTPRouteRedirectScheme",
	"HTTPRouteRequestHeaderModifier",
	"HTTPRouteRequestHeaderModifierBackendWeights",
	"HTTPRouteRequestMirror",
	"HTTPRouteRequestMultipleMirrors",
	"HTTPRouteRequestPercentageMirror",
	"HTTPRouteResponseHeaderModifier",
	"HTTPRouteRewriteHost",
	"HTTPRouteRewritePath",
	"HTTPRouteServiceTypes",
	"HTTPRouteSimpleSameNamespace",
	"HTTPRouteTimeoutBackendRequest",
	"HTTPRouteTimeoutRequest",
	"HTTPRouteWeight",
}

// Tests of gateways, with a service in the gateway's place. It runs inside the network of a pod of the mesh, so that its
// requests are a pod's.
func TestTwins(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.ManifestFS = []fs.FS{&conformance.Manifests, &manifests}
	options.MeshManifests = "twins.yaml"
	options.ReportOutputPath = ""
	var all []suite.ConformanceTest
	for _, name := range twins {
		all = append(all, twin(published(t, name)))
	}
	runner, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatal(err)
	}
	runner.Setup(t, all)
	if err := runner.Run(t, all); err != nil {
		t.Fatal(err)
	}
}

func published(t *testing.T, name string) suite.ConformanceTest {
	for _, test := range tests.ConformanceTests {
		if test.ShortName == name {
			return test
		}
	}
	t.Fatalf("the suite has no test %s", name)
	return suite.ConformanceTest{}
}

// The same test, for which services and gateways look alike.
func twin(test suite.ConformanceTest) suite.ConformanceTest {
	manifests, run := test.Manifests, test.Test
	test.Manifests = nil
	test.Parallel = false
	test.Features = []features.FeatureName{features.SupportMesh}
	test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
		s.Client = newFront(t, s.Client)
		s.ControllerName = controller
		for _, location := range manifests {
			s.Applier.MustApplyWithCleanup(t, s.Client, s.TimeoutConfig, location, true)
		}
		run(t, s)
	}
	return test
}
