-- Reads `account` and `payment` once, while everybody goes on writing.
ALTER TABLE account VALIDATE CONSTRAINT account_above_limit;
ALTER TABLE account VALIDATE CONSTRAINT account_below_limit;
ALTER TABLE account VALIDATE CONSTRAINT account_shortfall;
ALTER TABLE account VALIDATE CONSTRAINT account_closed;
ALTER TABLE payment VALIDATE CONSTRAINT payment_shape;
ALTER TABLE payment VALIDATE CONSTRAINT payment_entries;
ALTER TABLE payment VALIDATE CONSTRAINT payment_amount;
ALTER TABLE payment VALIDATE CONSTRAINT payment_captured;
ALTER TABLE payment VALIDATE CONSTRAINT payment_progress;
