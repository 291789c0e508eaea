namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A job that ends with the save. Only ever inserted, and its insert is a call of complete_job: one short statement, whose plan the session
// keeps, in place of a DELETE and an INSERT of all that the claim had just brought.
internal sealed class JobCompletion
{
    public Guid Id { get; set; }

    public Guid LeaseToken { get; set; }

    // HistoryPolicy.
    public short History { get; set; }

    public string? Result { get; set; }
}
