package autoscaler

var disturbances []scenario
