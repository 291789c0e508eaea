using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// After a save: what was saved becomes hints and leaves the change tracker, which would otherwise grow by every job of a long-lived context.
internal static class SavedRows
{
    public static List<JobHint> Take(DbContext context, PendingJobs pending)
    {
        Dictionary<string, DateTime> oldest = new(StringComparer.Ordinal);
        List<JobRow> kept = [];
        foreach (var row in pending.Rows)
        {
            var entry = row.EntryIn(context);

            // acceptAllChangesOnSuccess: false leaves it Added, and its run_at where only the entry sees it.
            var runAt = entry.Property<DateTime?>(nameof(JobRow.RunAt)).CurrentValue;
            if (runAt is { } due && row.Priority > 0 && entry.State is EntityState.Added or EntityState.Unchanged
                && (!oldest.TryGetValue(row.Queue, out var known) || runAt < known))
                oldest[row.Queue] = DateTime.SpecifyKind(due, DateTimeKind.Utc);
            if (row is RelatedJobRow { UniqueKey: not null })
                oldest[JobHint.Unsettled.Queue] = JobHint.Unsettled.RunAt;
            if (entry.State == EntityState.Unchanged)
                entry.State = EntityState.Detached;
            else if (entry.State == EntityState.Added)
                kept.Add(row);
        }

        pending.Rows.Clear();
        pending.Rows.AddRange(kept);
        return [.. oldest.Select(each => new JobHint(each.Key, each.Value))];
    }
}
