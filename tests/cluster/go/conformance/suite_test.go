// Package conformance_test runs the Gateway API's own suite, and a test of ours, against the cluster that KUBECONFIG
// names.
package conformance_test

import (
	"embed"
	"io/fs"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

//go:embed *.yaml
var manifests embed.FS

// The suite as it is published, told by its flags what to run.
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}

// Tests of ours, told by the same flags. They are in no report: those count what is published.
func TestOwn(t *testing.T) {
	options := conformance.DefaultOptions(t)
	options.ManifestFS = []fs.FS{&conformance.Manifests, &manifests}
	options.ReportOutputPath = ""
	own := []suite.ConformanceTest{grpcRequestHeaders}
	runner, err := suite.NewConformanceTestSuite(options)
	if err != nil {
		t.Fatal(err)
	}
	runner.Setup(t, own)
	if err := runner.Run(t, own); err != nil {
		t.Fatal(err)
	}
}
