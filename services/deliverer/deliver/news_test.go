package deliver

import (
	"testing"

	"github.com/google/uuid"
)

func TestA410IsNewsAlsoBesideASuccess(t *testing.T) {
	t.Parallel()
	endpoint := uuid.New()
	of := func(o Outcome) result {
		return result{item: &item{Attempt: Attempt{EndpointID: endpoint}}, Response: Response{Outcome: o}}
	}
	success, gone := of(Outcome{Success: true, Code: 200}), of(Outcome{Code: 410, Class: classStatus})
	for name, batch := range map[string][]result{
		"alone":                 {gone},
		"after a success":       {success, gone},
		"followed by a success": {gone, success},
	} {
		n := newsOf(batch)
		if _, ok := n.gone[endpoint]; n.none() || !ok {
			t.Errorf("a 410 %s is no news", name)
		}
	}
	if n := newsOf([]result{success}); !n.none() {
		t.Errorf("a success is news: %+v", n)
	}
}
