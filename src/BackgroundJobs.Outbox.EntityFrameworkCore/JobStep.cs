namespace BackgroundJobs.Outbox.EntityFrameworkCore;

// A step that is kept with the save. Only ever inserted, and its insert is a call of save_step.
internal sealed class JobStep
{
    public Guid Id { get; set; }

    public Guid LeaseToken { get; set; }

    public string Name { get; set; } = "";

    public string Step { get; set; } = "";
}
