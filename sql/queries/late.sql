-- name: CloseOvertaken :exec
-- Closes attempts that were begun as another attempt's lease had run out, when
-- that one's late success has ended the delivery: the sweeper looks at what is
-- pending, and would not close them if their process died. If it lives, its
-- result is written all the same.
UPDATE attempts a
SET outcome = 'interrupted', finished_at = now()
WHERE a.delivery_id = ANY (@ids::uuid[]) AND a.delivery_id BETWEEN @low::uuid AND @high::uuid AND a.outcome IS NULL
  AND EXISTS (SELECT FROM deliveries d WHERE d.id = a.delivery_id AND d.status <> 'pending');
