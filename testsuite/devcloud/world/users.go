package world

import (
	"strings"

	"github.com/google/uuid"
)

// ObjectsUser owns S3 credentials. Its UUID is called id in the API and has no
// dashes.
type ObjectsUser struct {
	Meta
	AccessKey, SecretKey string
}

func randomKey() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// CreateUser creates an objects user with one pair of keys.
func (w *World) CreateUser(name string, tags map[string]string) (ObjectsUser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "" {
		return ObjectsUser{}, invalid("display_name", "This field is required.")
	}
	u := &ObjectsUser{Meta: w.newMeta(name, "", tags), AccessKey: randomKey(), SecretKey: randomKey() + randomKey()}
	u.UUID = randomKey()
	w.users.add(u)
	w.record("objects_user_create", u.Meta)
	return *u, nil
}

// Users returns all objects users.
func (w *World) Users() []ObjectsUser { return all(w, &w.users) }

// User returns one objects user.
func (w *World) User(id string) (ObjectsUser, error) { return find(w, &w.users, id) }

// UpdateUser renames or retags a user.
func (w *World) UpdateUser(id string, p MetaPatch) error {
	return change(w, &w.users, id, "objects_user_update", func(u *ObjectsUser) error {
		p.apply(&u.Meta)
		return nil
	})
}

// DeleteUser removes a user and its keys.
func (w *World) DeleteUser(id string) error {
	return change(w, &w.users, id, "objects_user_delete", func(*ObjectsUser) error {
		w.users.remove(id)
		return nil
	})
}
