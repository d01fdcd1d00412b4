// Package peers runs other people's programs against devcloud: what they expect
// of the real cloud keeps the stand-in honest.
package peers
