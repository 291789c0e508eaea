namespace BackgroundJobs.Outbox;

/// <summary>
/// The arguments of a job: a type that serialises to a JSON object, with a stored name that a rename of the class does not change.
/// </summary>
/// <example><code>public sealed record BootServer(long ServerId) : IJob { public static string Kind => "boot_server"; }</code></example>
public interface IJob
{
    /// <summary>
    /// The name under which jobs of this type are stored: 1 to 63 characters of <c>a-z 0-9 _ . : -</c>, first one a letter or a digit.
    /// Jobs that wait in the database carry it, so it must not change while any does.
    /// </summary>
    static abstract string Kind { get; }

    /// <summary>What every job of this kind gets unless the call of Enqueue says otherwise. Default: the library's defaults.</summary>
    static virtual EnqueueOptions Defaults => EnqueueOptions.None;
}
