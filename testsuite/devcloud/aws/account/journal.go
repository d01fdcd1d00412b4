package account

// Note adds to the timeline what happened to something outside of the account's
// own state, such as a load balancer.
func (a *Account) Note(name, subject string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(name, subject)
}
