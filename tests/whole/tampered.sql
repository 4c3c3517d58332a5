-- Each block breaks a ledger in one way and names the checks of the audit that must find it. A wrong entry shows in several ways.

UPDATE payment SET reason = 'because' WHERE state = 'rejected';
-- finds: payment_state

UPDATE payment SET version = 2 WHERE reference = 'fund';
-- finds: payment_transitions

UPDATE payment SET fingerprint = '\x00' WHERE reference = 'fund';
-- finds: payment_state

UPDATE payment SET amount = 401 WHERE reference = 'order-1';
-- finds: payment_entries

UPDATE payment SET debit_seq = 7 WHERE reference = 'order-1';
-- finds: entry_payment payment_entries payment_sum

UPDATE entry SET amount = amount - 1 WHERE amount = 400;
-- finds: account_posted entry_chain payment_entries payment_sum

DELETE FROM payment WHERE reference = 'order-1';
-- finds: entry_payment

INSERT INTO entry SELECT id, 2, 1, 401, '01920000-0000-7000-8000-000000000005' FROM account WHERE name = 'shop';
-- finds: account_last_balance account_posted account_version entry_payment

UPDATE payment SET debit_account = (SELECT id FROM account WHERE name = 'nobody'), debit_seq = 1
 WHERE reference = 'order-1';
-- finds: entry_payment payment_accounts payment_currency payment_entries payment_sum

UPDATE payment SET credit_account = 4711 WHERE reference = 'order-2';
-- finds: payment_accounts

UPDATE payment SET currency = 'EUR' WHERE reference = 'order-1';
-- finds: payment_currency

UPDATE account SET currency = 'EUR' WHERE name = 'shop';
-- finds: account_opening currency_sum payment_currency

UPDATE entry SET balance_after = 999 WHERE amount = 1000;
-- finds: entry_chain

UPDATE entry SET balance_after = 601 WHERE amount = -400;
-- finds: account_last_balance entry_chain

DELETE FROM account WHERE name = 'shop';
-- finds: account_exists currency_sum payment_accounts payment_currency

UPDATE account SET posted = 601 WHERE name = 'alice';
-- finds: account_last_balance account_posted currency_sum

UPDATE account SET version = 3 WHERE name = 'alice';
-- finds: account_version

UPDATE entry SET seq = 3 WHERE amount = -400; UPDATE payment SET debit_seq = 3 WHERE reference = 'order-1';
-- finds: account_version

ALTER TABLE account DROP CONSTRAINT account_above_limit;
UPDATE account SET min_balance = 601 WHERE name = 'alice';
UPDATE payment SET min_balance = 601 WHERE id = '01920000-0000-7000-8000-000000000002';
-- finds: account_limit guards

-- The balance is above the limit, and was not.
UPDATE account SET min_balance = 500 WHERE name = 'alice';
UPDATE payment SET min_balance = 500 WHERE id = '01920000-0000-7000-8000-000000000002';
UPDATE entry SET balance_after = 400 WHERE amount = 1000;
-- finds: account_limit entry_chain

UPDATE account SET held = 1 WHERE name = 'alice';
-- finds: account_held

UPDATE account SET min_balance = -1 WHERE name = 'nobody';
-- finds: account_status

DELETE FROM payment WHERE id = '01920000-0000-7000-8000-000000000002';
-- finds: account_opening

UPDATE account SET min_balance = -5 WHERE name = 'alice';
-- finds: account_terms

DROP TRIGGER entry_append_only ON entry;
-- finds: guards

ALTER TABLE account DISABLE TRIGGER account_name_valid;
-- finds: guards

-- Tasks that are not what they can be.

UPDATE payment SET request = NULL WHERE reference = 'later';
-- finds: payment_state

UPDATE payment SET state = 'scheduled' WHERE type = 'freeze_account';
-- finds: account_status agenda_task

UPDATE payment SET currency = 'USD' WHERE type = 'freeze_account';
-- finds: payment_shape

UPDATE payment SET debit_account = 1 WHERE reference = 'split';
-- finds: payment_shape

-- Legs.

DELETE FROM leg WHERE leg = 1 AND payment_id = (SELECT id FROM payment WHERE reference = 'split-refund');
-- finds: entry_payment payment_captured payment_legs

UPDATE payment SET legs = 3 WHERE reference = 'split';
-- finds: payment_legs

UPDATE payment SET amount = 200 WHERE reference = 'split';
-- finds: payment_legs

UPDATE leg SET amount = amount + 1 WHERE debit_seq IS NOT NULL AND captured IS NOT NULL AND leg = 0;
-- finds: payment_captured payment_entries

UPDATE leg SET currency = 'EUR' WHERE captured IS NULL;
-- finds: follow_up_parent payment_currency

UPDATE leg SET credit_account = 4711 WHERE debit_seq IS NULL AND leg = 1;
-- finds: payment_accounts payment_currency

-- What has become of payments.

-- Takes 900 back of a payment of which 800 were captured and 300 refunded: the books balance.
ALTER TABLE payment DROP CONSTRAINT payment_captured, DROP CONSTRAINT payment_progress;
INSERT INTO payment (id, parent_id, type, state, debit_account, credit_account, amount, currency, debit_seq, credit_seq,
                     received_at, settled_at, fingerprint, request)
SELECT '01920000-0000-7000-8000-000000000900', p.id, 'refund', 'settled', p.credit_account, p.debit_account, 900, 'USD',
       d.version + 1, c.version + 1, now(), now(), p.fingerprint, '{}'
  FROM payment p JOIN account d ON d.id = p.credit_account JOIN account c ON c.id = p.debit_account
 WHERE p.reference = 'captured';
INSERT INTO entry (account, seq, amount, balance_after, payment_id)
SELECT a.id, a.version + 1, m.amount, a.posted + m.amount, '01920000-0000-7000-8000-000000000900'
  FROM (VALUES ('buyer', -900), ('bank', 900)) AS m (name, amount) JOIN account a USING (name);
UPDATE account a SET posted = posted + m.amount, version = version + 1
  FROM (VALUES ('buyer', -900), ('bank', 900)) AS m (name, amount) WHERE a.name = m.name;
INSERT INTO transition
SELECT id, version + 1, state, state, now(), '01920000-0000-7000-8000-000000000900'
  FROM payment WHERE reference = 'captured';
UPDATE payment SET refunded = refunded + 900, version = version + 1 WHERE reference = 'captured';
-- finds: guards payment_captured payment_progress

UPDATE payment SET refunded = refunded + 1 WHERE reference = 'sale';
-- finds: payment_captured

UPDATE payment SET captured = captured - 1 WHERE reference = 'held';
-- finds: hold_payment payment_captured

UPDATE leg SET refunded = refunded - 1 WHERE refunded > 0 AND leg = 1;
-- finds: payment_captured

UPDATE payment SET state = 'settled' WHERE reference = 'split';
-- finds: payment_progress payment_transitions

ALTER TABLE payment DROP CONSTRAINT payment_progress;
UPDATE payment SET state = 'refunded' WHERE reference = 'sale';
-- finds: guards payment_progress payment_transitions

UPDATE payment SET parent_id = gen_random_uuid() WHERE reference = 'sale-refund';
-- finds: follow_up_parent payment_captured transition_cause

DELETE FROM payment WHERE reference = 'sale';
-- finds: entry_payment follow_up_parent payment_transitions

UPDATE payment SET captured = NULL, refunded = NULL, charged_back = NULL WHERE reference = 'sale';
-- finds: payment_captured payment_progress

-- Transitions.

UPDATE payment SET state = 'expired' WHERE reference = 'voided';
-- finds: payment_transitions

DELETE FROM transition WHERE version = 3 AND payment_id = (SELECT id FROM payment WHERE reference = 'sale');
-- finds: payment_transitions transition_cause

UPDATE transition SET version = 9
 WHERE version = 4 AND payment_id = (SELECT id FROM payment WHERE reference = 'sale');
-- finds: payment_transitions

ALTER TABLE transition DROP CONSTRAINT transition_legal;
UPDATE transition SET to_state = 'settled' WHERE to_state = 'voided';
UPDATE transition SET from_state = 'expired' WHERE to_state = 'canceled';
-- finds: guards payment_transitions transition_legal

UPDATE transition SET cause = NULL WHERE to_state = 'voided';
-- finds: transition_cause

UPDATE transition SET cause = payment_id WHERE to_state = 'expired';
-- finds: transition_cause

UPDATE transition SET cause = gen_random_uuid() WHERE to_state = 'canceled';
-- finds: transition_cause

-- What is held, and what waits.

DELETE FROM hold WHERE leg = 1;
-- finds: account_held hold_payment waiting_count

INSERT INTO hold SELECT gen_random_uuid(), 0, id, 5, now() FROM account WHERE name = 'buyer';
UPDATE account SET held = held + 5 WHERE name = 'buyer';
-- finds: hold_payment waiting_count

UPDATE hold SET amount = amount + 5 WHERE amount = 450;
UPDATE account SET held = held + 5 WHERE name = 'buyer';
-- finds: hold_payment waiting_count

UPDATE hold SET expires_at = expires_at + interval '1 s';
-- finds: hold_payment

DELETE FROM agenda WHERE waits_for IS NULL;
-- finds: agenda_task waiting_count

UPDATE agenda SET waits_for = NULL;
-- finds: agenda_task waiting_count

INSERT INTO agenda SELECT id, now(), now(), 0, 0, NULL, '{}' FROM payment WHERE reference = 'sale';
-- finds: agenda_task waiting_count

INSERT INTO waiting_count (what, rows) VALUES ('parked', 1);
-- finds: waiting_count

-- Accounts.

UPDATE account SET shortfall = shortfall + 1 WHERE name = 'seller';
-- finds: account_shortfall

UPDATE account SET shortfall = 5 WHERE name = 'buyer';
-- finds: account_shortfall

UPDATE account SET max_balance = 79999 WHERE name = 'fee';
-- finds: account_terms

UPDATE account SET min_balance = -4 WHERE name = 'fee';
-- finds: account_terms

ALTER TABLE account DROP CONSTRAINT account_below_limit;
UPDATE account SET max_balance = 7 WHERE name = 'buyer';
-- finds: account_limit account_terms guards

UPDATE account SET status = 'open' WHERE name = 'ice';
-- finds: account_status

UPDATE account SET status = 'frozen' WHERE name = 'gone';
-- finds: account_status

DELETE FROM payment WHERE type = 'close_account';
-- finds: account_status

-- Keys.

ALTER TABLE account DROP CONSTRAINT account_name_key; INSERT INTO account (name) VALUES ('alice');
-- finds: account_name guards

DROP INDEX outbox_held;
CREATE INDEX outbox_held ON outbox (held_key COLLATE "en-x-icu", id) WHERE held_key IS NOT NULL;
-- finds: text_keys

ALTER SEQUENCE account_id_seq RESTART;
-- finds: sequences

DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$;
-- finds: durability

DROP INDEX payment_parent;
-- finds: guards

ALTER TABLE payment DISABLE TRIGGER payment_updated;
-- finds: guards
