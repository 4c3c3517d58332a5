-- What nobody did, and the replay has to find: a change of one row, which is the first one of its kind.

UPDATE account SET posted = posted + 1
 WHERE status = 'open' AND max_balance IS NULL;

UPDATE account SET held = held + 1
 WHERE status = 'open' AND min_balance IS NULL;

UPDATE account SET version = version + 1
 WHERE status = 'open';

UPDATE account SET shortfall = shortfall + 1
 WHERE status = 'open' AND min_balance IS NOT NULL;

UPDATE account SET min_balance = min_balance - 1
 WHERE status = 'open' AND min_balance IS NOT NULL;

UPDATE account SET max_balance = 1000000000
 WHERE status = 'open' AND max_balance IS NULL;

UPDATE account SET status = CASE status WHEN 'open' THEN 'frozen' ELSE 'open' END::account_status
 WHERE status IN ('open', 'frozen');

UPDATE entry SET balance_after = balance_after + 1
 WHERE true;

UPDATE entry SET amount = amount + 1
 WHERE amount > 0;

UPDATE entry SET seq = seq + 1000000
 WHERE true;

-- Frozen it may have been in that very moment; whatever is closed stays so.
UPDATE payment SET reason = 'account_closed'
 WHERE reason = 'insufficient_funds' AND request IS NULL AND NOT EXISTS
       (SELECT FROM account WHERE id IN (debit_account, credit_account) AND status = 'closed');

UPDATE payment SET state = 'rejected', reason = 'insufficient_funds', debit_seq = NULL, credit_seq = NULL
 WHERE type = 'transfer' AND request IS NULL AND state = 'settled';

UPDATE payment SET state = 'scheduled'
 WHERE state = 'parked';

UPDATE payment SET version = version + 1
 WHERE state = 'settled';

UPDATE payment SET amount = amount + 1
 WHERE type = 'transfer' AND request IS NULL AND state = 'settled';

UPDATE payment SET charged_back = charged_back + 1
 WHERE state = 'charged_back' AND captured > refunded + charged_back;

UPDATE payment SET captured = captured - 1
 WHERE state = 'partially_captured' AND captured > 1 AND refunded = 0 AND charged_back = 0;

UPDATE payment SET expires_at = expires_at + interval '1 us'
 WHERE state = 'authorized';

UPDATE payment SET settled_at = '2000-01-01'
 WHERE type = 'transfer' AND request IS NULL AND state = 'settled';

UPDATE payment SET settled_at = settled_at - interval '1 hour'
 WHERE state = 'settled' AND parent_id IS NOT NULL;

UPDATE payment SET settled_at = settled_at + interval '1 hour'
 WHERE type = 'authorize' AND state <> 'rejected';

UPDATE leg SET refunded = refunded + 1
 WHERE captured > refunded + charged_back;

-- By another task, which has the moment too: nothing else says when a task was parked at its time.
UPDATE transition SET at = at + interval '1 us'
 WHERE cause <> payment_id;

UPDATE transition SET cause = NULL
 WHERE cause IS NOT NULL;

UPDATE transition SET at = at - interval '1 minute'
 WHERE cause IS NULL;

UPDATE transition SET to_state = 'voided'
 WHERE to_state = 'expired';

UPDATE payment SET settled_at = received_at
 WHERE type = 'transfer' AND version = 2 AND state = 'settled';

UPDATE transition SET version = version + 100
 WHERE true;
