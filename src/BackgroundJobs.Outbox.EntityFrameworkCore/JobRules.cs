using Microsoft.EntityFrameworkCore;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// Applies a model's rules to what the context is about to save.
internal static class JobRules
{
    public static void Apply(DbContext db, PendingJobs pending)
    {
        if (db.Model.FindRuntimeAnnotationValue(JobRule.Annotation) is not Dictionary<string, IReadOnlyList<JobRule>> rules)
            return;
        if (db.ChangeTracker.AutoDetectChangesEnabled)
            db.ChangeTracker.DetectChanges();

        // A save that failed left its rows: what still applies keeps its one row, what does not any more gives it up.
        foreach (var (key, job) in pending.Ruled.ToList())
        {
            if (job.IsPending && key.Rule.Applies(db.Entry(key.Entity)))
                continue;
            if (job.IsPending)
                job.Drop();
            pending.Ruled.Remove(key);
        }

        foreach (var entry in db.ChangeTracker.Entries().ToList())
        {
            // A rule on a base type holds for the types derived from it.
            for (var type = entry.Metadata; type is not null; type = type.BaseType)
            {
                foreach (var rule in rules.GetValueOrDefault(type.Name) ?? [])
                {
                    if (!rule.Applies(entry) || pending.Ruled.ContainsKey((entry.Entity, rule)))
                        continue;
                    var job = rule.Enqueue(db, entry.Entity);
                    pending.Ruled[(entry.Entity, rule)] = job;
                    pending.Bind(job);
                }
            }
        }
    }
}
