package stack

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// usageWait bounds the question at the end; a cloud that is gone needs no judgment.
const usageWait = 10 * time.Second

// refused says which rights were asked for that the documented policies do not give.
// Each suite fails by it, also where the call was tried again or its refusal swallowed.
func (s *Stack) refused() error {
	ctx, cancel := context.WithTimeout(context.Background(), usageWait)
	defer cancel()
	var principals []struct {
		Principal string
		Refused   map[string]int
	}
	if s.Cloud(ctx, http.MethodGet, "_devcloud/aws/usage", nil, &principals) != nil {
		return nil // a cloud that some test has killed does not answer
	}
	var out []string
	for _, p := range principals {
		for _, right := range slices.Sorted(maps.Keys(p.Refused)) {
			out = append(out, fmt.Sprintf("%s: %s (%d times)", p.Principal, right, p.Refused[right]))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return fmt.Errorf("the documented policies of AWS do not cover: %s", strings.Join(out, ", "))
}
