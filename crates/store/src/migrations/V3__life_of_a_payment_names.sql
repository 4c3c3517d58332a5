-- The names of what payments can be. In a migration of its own: a value that is added to an enum
-- can't be used before that is committed. No table is locked.
ALTER TYPE task_type ADD VALUE 'authorize';
ALTER TYPE task_type ADD VALUE 'capture';
ALTER TYPE task_type ADD VALUE 'void';
ALTER TYPE task_type ADD VALUE 'refund';
ALTER TYPE task_type ADD VALUE 'chargeback';
ALTER TYPE task_type ADD VALUE 'chargeback_reversal';
ALTER TYPE task_type ADD VALUE 'cancel';
ALTER TYPE task_type ADD VALUE 'close_account';
ALTER TYPE task_type ADD VALUE 'freeze_account';
ALTER TYPE task_type ADD VALUE 'unfreeze_account';
ALTER TYPE task_type ADD VALUE 'set_limits';

ALTER TYPE payment_state ADD VALUE 'scheduled';
ALTER TYPE payment_state ADD VALUE 'parked';
ALTER TYPE payment_state ADD VALUE 'authorized';
ALTER TYPE payment_state ADD VALUE 'partially_captured';
ALTER TYPE payment_state ADD VALUE 'partially_refunded';
ALTER TYPE payment_state ADD VALUE 'refunded';
ALTER TYPE payment_state ADD VALUE 'charged_back';
ALTER TYPE payment_state ADD VALUE 'voided';
ALTER TYPE payment_state ADD VALUE 'expired';
ALTER TYPE payment_state ADD VALUE 'canceled';
