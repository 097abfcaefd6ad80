-- Refunds: payments that go back to shoppers.

-- name: refunds_page
-- A page of a drop's refunds, done or due, in the order of reservation and payment. $1 drop id; $2 and $3 the reservation id
-- and payment reference the page before ended with, '' for the first; $4 rows at most.
SELECT reservation_id, payment_reference, amount_minor, state FROM refunds
WHERE reservation_id > $1::text || '.r' AND reservation_id < $1::text || '.s' AND (reservation_id, payment_reference) > ($2::text, $3::text)
ORDER BY reservation_id, payment_reference
LIMIT $4
