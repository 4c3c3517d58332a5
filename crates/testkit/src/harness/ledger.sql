-- A small ledger in which everything is right: 5 tasks settled, 2 rejected, 1 name not opened.
INSERT INTO account (name, currency, status, opened_at, min_balance, posted, version) VALUES
    ('world', 'USD', 'open', now(), NULL, -1000, 1),
    ('alice', 'USD', 'open', now(), 0, 600, 2),
    ('shop', 'USD', 'open', now(), 0, 400, 1),
    ('nobody', NULL, 'unopened', NULL, NULL, 0, 0);
INSERT INTO payment (id, debit_account, credit_account, amount, min_balance, debit_seq, credit_seq, received_at,
                     settled_at, type, state, currency, fingerprint, reason, publisher, reference, metadata)
SELECT t.id::uuid, d.id, c.id, t.amount, t.min_balance, t.debit_seq, t.credit_seq, now(), now(),
       t.type::task_type, t.state::payment_state, 'USD', decode(repeat('ab', 16), 'hex'), t.reason, 'test', t.reference,
       t.metadata::jsonb
  FROM (VALUES
    ('01920000-0000-7000-8000-000000000001', 'open_account', 'world', NULL, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, 'settled', NULL, NULL, NULL),
    ('01920000-0000-7000-8000-000000000002', 'open_account', 'alice', NULL, NULL, 0, NULL, NULL, 'settled', NULL, NULL, NULL),
    ('01920000-0000-7000-8000-000000000003', 'open_account', 'shop', NULL, NULL, 0, NULL, NULL, 'settled', NULL, NULL, NULL),
    ('01920000-0000-7000-8000-000000000004', 'transfer', 'world', 'alice', 1000, NULL, 1, 1, 'settled', NULL, 'fund', NULL),
    ('01920000-0000-7000-8000-000000000005', 'transfer', 'alice', 'shop', 400, NULL, 2, 1, 'settled', NULL, 'order-1', '{"longer": "1", "a": "ü"}'),
    ('01920000-0000-7000-8000-000000000006', 'transfer', 'alice', 'shop', 9999, NULL, NULL, NULL, 'rejected', 'insufficient_funds', 'order-2', NULL),
    ('01920000-0000-7000-8000-000000000007', 'transfer', 'shop', 'nobody', 1, NULL, NULL, NULL, 'rejected', 'account_not_found', NULL, NULL)
  ) AS t (id, type, debit, credit, amount, min_balance, debit_seq, credit_seq, state, reason, reference, metadata)
  JOIN account d ON d.name = t.debit
  LEFT JOIN account c ON c.name = t.credit;
INSERT INTO entry (account, seq, amount, balance_after, payment_id)
SELECT a.id, e.seq, e.amount, e.balance_after, e.payment_id::uuid
  FROM (VALUES
    ('world', 1, -1000, -1000, '01920000-0000-7000-8000-000000000004'),
    ('alice', 1, 1000, 1000, '01920000-0000-7000-8000-000000000004'),
    ('alice', 2, -400, 600, '01920000-0000-7000-8000-000000000005'),
    ('shop', 1, 400, 400, '01920000-0000-7000-8000-000000000005')
  ) AS e (name, seq, amount, balance_after, payment_id)
  JOIN account a USING (name);
