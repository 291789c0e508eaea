namespace BackgroundJobs.Outbox;

/// <summary>The library's defaults and limits for a job, in one place. The reasons stand at <see cref="EnqueueOptions"/>.</summary>
public static class JobDefaults
{
    /// <summary>The queue of a job that names none.</summary>
    public const string Queue = "default";

    /// <summary>The priority of a job that names none.</summary>
    public const int Priority = 2;

    /// <summary>The highest priority.</summary>
    public const int FirstPriority = 1;

    /// <summary>The lowest priority.</summary>
    public const int LastPriority = 4;

    /// <summary>How often a job may fail before it is dead.</summary>
    public const int MaxAttempts = 20;

    /// <summary>Largest <see cref="EnqueueOptions.MaxAttempts"/>.</summary>
    public const int MaxMaxAttempts = 1000;

    /// <summary>
    /// Largest arguments, in bytes of JSON (64 KiB): beyond it, rows leave the table's pages and every claim pays for them. Pass a
    /// reference in place of a document.
    /// </summary>
    public const int MaxArgsBytes = 64 * 1024;

    /// <summary>Largest headers of one job, in bytes of JSON (16 KiB).</summary>
    public const int MaxHeadersBytes = 16 * 1024;

    /// <summary>The schema of our tables.</summary>
    public const string Schema = "outbox";
}
