using System.Text;

namespace BackgroundJobs.Outbox;

/// <summary>How a job ended, and what it left.</summary>
public sealed class EndedJob
{
    private readonly string? result;
    private readonly OutboxOptions options;

    internal EndedJob(Guid id, string? kind, JobState? state, string? result, Guid? met, OutboxOptions options)
    {
        Id = id;
        Kind = kind;
        State = state;
        this.result = result;
        Met = met;
        this.options = options;
    }

    /// <summary>The job's id.</summary>
    public Guid Id { get; }

    /// <summary>Its kind; null when its history is gone.</summary>
    public string? Kind { get; }

    /// <summary>How it ended; null when there is no history of it: it was deleted, its day was dropped, or its kind keeps none.</summary>
    public JobState? State { get; }

    /// <summary>
    /// Of a job that was not run because of its <see cref="UniqueJob"/>: the one that stands for it, which may have ended in favour of another in turn.
    /// Else null.
    /// </summary>
    public Guid? Met { get; }

    /// <summary>It left a result.</summary>
    public bool HasResult => result is not null;

    /// <summary>What its handler left by <see cref="JobContext.Result{T}"/>.</summary>
    /// <typeparam name="T">The type it was left as.</typeparam>
    /// <returns>The result, or the type's default (null, 0) when there is none.</returns>
    /// <exception cref="System.Text.Json.JsonException">The result is of another shape.</exception>
    public T? Result<T>() => result is null || Kind is null
        ? default
        : JobJson.Read<T>(JobEncryption.Decrypt(Encoding.UTF8.GetBytes(result), Id, JobContext.ResultKey(Kind), options.Encryption), options);
}
