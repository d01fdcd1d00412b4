// Package layers tests the import layers of the architecture: which package may
// know which, what workflows may reach transitively, and that the linter rules
// which guard the same lines while editing do fire.
package layers
