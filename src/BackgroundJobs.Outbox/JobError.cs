using System.Buffers;
using System.Text;
using System.Text.Json;

namespace BackgroundJobs.Outbox;

/// <summary>One failure, as it is kept with the job: bounded, and free of what PostgreSQL's text cannot hold.</summary>
public sealed record JobError
{
    /// <summary>How many errors a job keeps: the newest ones. Enough to see whether it always fails the same way.</summary>
    public const int Kept = 5;

    private const int MaxMessage = 2000;
    private const int MaxStack = 6000;

    private JobError(string type, string message, string? stack)
    {
        Type = type;
        Message = message;
        Stack = stack;
    }

    /// <summary>Full name of the exception's type, or a word for what is no exception (<c>timeout</c>, <c>cancelled</c>, ...).</summary>
    public string Type { get; }

    /// <summary>The message, at most 2,000 characters.</summary>
    public string Message { get; }

    /// <summary>Where it was thrown, at most 6,000 characters; null for what is no exception.</summary>
    public string? Stack { get; }

    /// <summary>An error from an exception.</summary>
    /// <param name="exception">The exception, with its inner ones.</param>
    /// <returns>The bounded error.</returns>
    public static JobError From(Exception exception) => new(
        Clean(exception.GetType().FullName ?? exception.GetType().Name, 300),
        Clean(Messages(exception), MaxMessage),
        exception.StackTrace is { } stack ? Clean(stack, MaxStack) : null);

    /// <summary>An error that no exception brought.</summary>
    /// <param name="type">A word.</param>
    /// <param name="message">What happened, why, what to do.</param>
    /// <returns>The bounded error.</returns>
    public static JobError Of(string type, string message) => new(Clean(type, 300), Clean(message, MaxMessage), null);

    internal string ToJson(int attempt)
    {
        var buffer = new ArrayBufferWriter<byte>(512);
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteNumber("attempt"u8, attempt);
            writer.WriteString("type"u8, Type);
            writer.WriteString("message"u8, Message);
            if (Stack is not null)
                writer.WriteString("stack"u8, Stack);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static string Messages(Exception exception)
    {
        var text = new StringBuilder(exception.Message);
        for (var inner = exception.InnerException; inner is not null && text.Length < MaxMessage; inner = inner.InnerException)
            text.Append(" ---> ").Append(inner.GetType().Name).Append(": ").Append(inner.Message);
        return text.ToString();
    }

    // jsonb refuses NUL and half a surrogate pair (SQLSTATE 22P05): an error that cannot be stored would lose the outcome itself.
    private static string Clean(string text, int max)
    {
        var clean = new StringBuilder(Math.Min(text.Length, max));
        foreach (var rune in text.EnumerateRunes())
        {
            if (clean.Length >= max)
                return clean.Append('…').ToString();
            if (rune.Value != 0)
                clean.Append(rune);
        }

        return clean.ToString();
    }
}
