// Where the Gateway API's definitions of resources come from: nothing of it is compiled.
module ambit.test/gateway

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.0
