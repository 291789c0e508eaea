-- No job of these groups starts for so long (migrations/0005). @delays in microseconds.
SELECT outbox.push_back(@queues, @groups, @delays)
