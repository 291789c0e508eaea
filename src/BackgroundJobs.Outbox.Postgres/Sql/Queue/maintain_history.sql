-- Makes the partitions of the days ahead and drops those past the retention; does nothing while another worker does it.
SELECT made, dropped
FROM outbox.maintain_history(@days_ahead, @retention)
