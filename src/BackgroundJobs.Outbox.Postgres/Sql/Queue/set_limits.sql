-- Sets the limits of a queue, or with @limited false takes them away. @declared: by an application's own code, and only where that says something else
-- than the last time. Returns whether they were set (migrations/0005).
SELECT outbox.set_limits(
    @queue, @limited, @concurrency, @rate, @rate_period, @group_concurrency, @group_rate, @group_rate_period, @group_order, @declared)
