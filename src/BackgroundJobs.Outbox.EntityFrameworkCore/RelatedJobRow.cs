namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A job that has to do with others: of a workflow, a group, or a unique key. Inserted by way of a view, as two entity types may not share a table.
internal sealed class RelatedJobRow : JobRow
{
    public Guid? WorkflowId { get; set; }

    public string? DependsOn { get; set; }

    public string? JobGroup { get; set; }

    public string? UniqueKey { get; set; }

    public string? UniqueRule { get; set; }
}
