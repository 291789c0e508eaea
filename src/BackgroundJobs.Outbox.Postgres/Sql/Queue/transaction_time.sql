-- The moment from which the delays of this transaction's jobs count.
SELECT now()
