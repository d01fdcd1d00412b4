package stack

import (
	"context"
	"net/http"
	"strings"
)

// Births are what the clouds' own journal says of machines: how many were ever
// made and how many there were at most at one time.
type Births struct{ Created, Peak int }

// Births counts the machines whose names begin with prefix.
func (s *Stack) Births(ctx context.Context, prefix string) (b Births, err error) {
	var journal []struct{ Name, Message string }
	if err := s.Cloud(ctx, http.MethodGet, "_devcloud/timeline", nil, &journal); err != nil {
		return b, err
	}
	now := 0
	for _, a := range journal {
		if !strings.Contains(a.Message, " "+prefix) {
			continue
		}
		for _, c := range Clouds {
			switch a.Name {
			case c.born:
				b.Created++
				now++
				b.Peak = max(b.Peak, now)
			case c.gone:
				now--
			}
		}
	}
	return b, nil
}
