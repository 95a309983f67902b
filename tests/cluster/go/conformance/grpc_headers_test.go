package conformance_test

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance/utils/echo"
	"sigs.k8s.io/gateway-api/conformance/utils/http"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// What a call carries, and what the application is given.
type call struct {
	rule    string
	sent    map[string]string
	given   map[string]string
	absent  []string
	backend string
}

// Headers of gRPC calls are changed as a GRPCRoute's rule says. The suite got a test of this name after the release
// that is used here.
var grpcRequestHeaders = suite.ConformanceTest{
	ShortName:   "MeshGRPCRouteRequestHeaderModifier",
	Description: "A GRPCRoute changes the headers of requests",
	Manifests:   []string{"grpc_headers.yaml"},
	Features:    []features.FeatureName{features.SupportMesh, features.SupportGRPCRoute},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		client := echo.ConnectToApp(t, s, echo.MeshAppEchoV1)
		calls := []call{
			{rule: "set", sent: map[string]string{"x-set": "mine"}, given: map[string]string{"x-set": "theirs", "x-kept": "kept"}, backend: "echo-v1"},
			{rule: "set", given: map[string]string{"x-set": "theirs"}, backend: "echo-v1"},
			{rule: "add", given: map[string]string{"x-add": "more"}, backend: "echo-v1"},
			{rule: "add", sent: map[string]string{"x-add": "first"}, given: map[string]string{"x-add": "first,more"}, backend: "echo-v1"},
			{rule: "remove", sent: map[string]string{"x-remove": "here"}, given: map[string]string{"x-kept": "kept"}, absent: []string{"x-remove"}, backend: "echo-v1"},
			{
				rule:    "many",
				sent:    map[string]string{"x-set-1": "mine", "x-add-1": "first", "x-remove-1": "here", "x-remove-2": "too"},
				given:   map[string]string{"x-set-1": "one", "x-set-2": "two", "x-add-1": "first,one", "x-add-2": "two", "x-kept": "kept"},
				absent:  []string{"x-remove-1", "x-remove-2"},
				backend: "echo-v2",
			},
			{rule: "none", sent: map[string]string{"x-set": "mine"}, given: map[string]string{"x-set": "mine"}, absent: []string{"x-add"}, backend: "echo-v2"},
		}
		for i, it := range calls {
			expected := it.expected()
			t.Run(expected.GetTestCaseName(i), func(t *testing.T) {
				client.MakeRequestAndExpectEventuallyConsistentResponse(t, expected, s.TimeoutConfig)
			})
		}
	},
}

func (it call) expected() http.ExpectedResponse {
	headers := map[string]string{"x-rule": it.rule, "x-kept": "kept"}
	for name, value := range it.sent {
		headers[name] = value
	}
	return http.ExpectedResponse{
		TestCaseName:    "headers by the rule " + it.rule,
		Request:         http.Request{Protocol: "grpc", Host: "echo:7070", Headers: headers},
		ExpectedRequest: &http.ExpectedRequest{Request: http.Request{Headers: it.given}, AbsentHeaders: it.absent},
		Response:        http.Response{StatusCode: 200},
		Backend:         it.backend,
		Namespace:       suite.MeshNamespace,
	}
}
