// Package reference holds the reference documents that the commands print.
package reference

import _ "embed"

// ClusterSchema is the JSON Schema of the cluster spec (draft 2020-12), generated
// from the types of internal/cluster by the test of internal/check.
//
//go:embed cluster.schema.json
var ClusterSchema []byte
