package main

import (
	"context"
	"fmt"
)

// halfDead measures what receivers that are well notice of others that are not.
// 100 endpoints of as many users get events in turn, at a rate. First all are
// well; then every other one is dead: a third of those refuse connections, a
// third answer 500, a third hang until the timeout. Both times the figures are
// those of the same 50.
func halfDead(ctx context.Context, l *lab) error {
	const endpoints = 100
	well, err := l.halfDead(ctx, "all well", endpoints, func(s *stack, i int) string {
		return fmt.Sprintf("%s/0s/others/%d", s.well, i)
	})
	if err != nil {
		return fmt.Errorf("all well: %w", err)
	}
	dead, err := l.halfDead(ctx, "half dead", endpoints, func(s *stack, i int) string {
		switch i / 2 % 3 {
		case 0:
			return fmt.Sprintf("%s/0s/refusing/%d", s.refuses, i)
		case 1:
			return fmt.Sprintf("%s/fail/failing/%d", s.fails, i)
		default:
			return fmt.Sprintf("%s/hang/hanging/%d", s.hangs, i)
		}
	})
	if err != nil {
		return fmt.Errorf("half dead: %w", err)
	}
	l.compare(dead, well)
	return nil
}

// halfDead runs one of the two, in which the odd endpoints have URLs of other.
func (l *lab) halfDead(ctx context.Context, name string, endpoints int, other func(s *stack, i int) string) (r result, err error) {
	err = l.onStack(ctx, nil, func(ctx context.Context, s *stack) error {
		eps, err := s.register(ctx, endpoints, 1, func(i int) string {
			if i%2 == 1 {
				return other(s, i)
			}
			return fmt.Sprintf("%s/0s/well/%d", s.well, i)
		})
		if err != nil {
			return err
		}
		t := trial{
			scenario: "half-dead", name: name, endpoint: eps[0], rate: l.cfg.rate(1000),
			others: []string{"failing", "hanging"},
			load:   newLoad(l.cfg.count(l.cfg.Events, 20_000), l.cfg.bytes(512), owners(eps)),
		}
		t.all = t.load.count
		for i := range t.load.count {
			if i%endpoints%2 == 0 {
				t.want++
			}
		}
		r, err = s.try(ctx, t)
		return err
	})
	return r, err
}
