using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.ChangeTracking;

namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A job as a tracked row. Only ever inserted. An insert says every column that is mapped, null or not, and each costs: what few jobs have is mapped for
// those alone (RelatedJobRow).
internal class JobRow
{
    public Guid Id { get; set; }

    public string Kind { get; set; } = "";

    // Null until a late-bound job is evaluated; the database refuses null.
    public string? Args { get; set; }

    public string Queue { get; set; } = "";

    public short Priority { get; set; }

    // Null: now(), by the database; read back with the insert.
    public DateTime? RunAt { get; set; }

    public short MaxAttempts { get; set; }

    public string? Headers { get; set; }

    public string? TraceParent { get; set; }

    // Entry compares the whole row with its snapshot each time; nobody but us has it in hand, so there is nothing to find.
    public EntityEntry<JobRow> EntryIn(DbContext db)
    {
        var tracker = db.ChangeTracker;
        if (!tracker.AutoDetectChangesEnabled)
            return db.Entry(this);
        tracker.AutoDetectChangesEnabled = false;
        try
        {
            return db.Entry(this);
        }
        finally
        {
            tracker.AutoDetectChangesEnabled = true;
        }
    }

    public static JobRow Of(NewJob job, TimeProvider time)
    {
        var row = job is { WorkflowId: null, Group: null, UniqueKey: null } ? new JobRow() : new RelatedJobRow
        {
            WorkflowId = job.WorkflowId,
            DependsOn = job.DependsOn,
            JobGroup = job.Group,
            UniqueKey = job.UniqueKey,
            UniqueRule = job.UniqueRule,
        };
        row.Id = job.Id;
        row.Kind = job.Kind;
        row.Args = job.Args;
        row.Queue = job.Queue;
        row.Priority = job.StoredPriority;
        // A change tracker inserts values, not expressions, so a delay counts from this process's clock here.
        row.RunAt = job.Delay is { } delay ? time.GetUtcNow().UtcDateTime + delay : job.RunAt;
        row.MaxAttempts = job.MaxAttempts;
        row.Headers = job.Headers;
        row.TraceParent = job.TraceParent;
        return row;
    }
}
