// Package talos turns a cluster spec into Talos machine configs and speaks the
// Talos machine API.
//
// Rendering is pure: the same request gives the same bytes, and nothing but the
// PKI bundle and the patches of the request goes into a config. Everything that
// holds a key is a secrets.Value; errors carry a fault.Kind and never repeat the
// text of a patch or of a config.
//
// The client keeps nothing: callers dial, ask and close. A connection must not
// outlive a reboot of the node, because a stream to a node that went through
// kexec hangs without an error.
package talos
