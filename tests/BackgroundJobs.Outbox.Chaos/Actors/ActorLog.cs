using System.Diagnostics;
using System.Text.Json;

namespace BackgroundJobs.Outbox.Chaos.Actors;

/// <summary>One thing an actor saw or did.</summary>
/// <param name="Ticks">The machine's monotonic clock, which all processes share, in units of <see cref="Stopwatch.Frequency"/>.</param>
/// <param name="What">A word of <see cref="Word"/>.</param>
/// <param name="Id">The job or the operation.</param>
/// <param name="Attempt">The job's attempt, or 0.</param>
/// <param name="Note">What else there is to say.</param>
internal sealed record LogLine(long Ticks, string What, Guid Id, int Attempt = 0, string? Note = null);

internal static class Word
{
    public const string Started = "started";
    public const string Returned = "returned";
    public const string Threw = "threw";
    public const string Called = "called";
    public const string Saved = "saved";
    public const string Crashes = "crashes";
    public const string Missing = "missing";
    public const string Fenced = "fenced";
    public const string Clock = "clock";
    public const string Failure = "failure";
    public const string Invoke = "invoke";
    public const string Ok = "ok";
    public const string Fail = "fail";
    public const string Unknown = "unknown";
    public const string Duplicate = "duplicate";
    public const string Cancel = "cancel";
    public const string Retry = "retry";
    public const string Resume = "resume";
    public const string Resumed = "resumed";
}

// Lines of JSON, each written by one call at the file's end: what was said before a SIGKILL is there after it.
internal sealed class ActorLog(string path) : IDisposable
{
    private readonly Lock gate = new();
    private readonly FileStream file = new(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);

    public string Path => path;

    public void Write(string what, Guid id, int attempt = 0, string? note = null)
    {
        var line = JsonSerializer.SerializeToUtf8Bytes(new LogLine(Stopwatch.GetTimestamp(), what, id, attempt, note));
        lock (gate)
            file.Write([.. line, (byte)'\n']);
    }

    public void Dispose() => file.Dispose();

    // A line that a killed process did not get to the end of is none.
    public static IEnumerable<LogLine> Read(string path)
    {
        using var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Read, FileShare.ReadWrite);
        using var reader = new StreamReader(file);
        while (reader.ReadLine() is { } text)
        {
            if (Parse(text) is { } line)
                yield return line;
        }
    }

    private static LogLine? Parse(string text)
    {
        try
        {
            return JsonSerializer.Deserialize<LogLine>(text);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
