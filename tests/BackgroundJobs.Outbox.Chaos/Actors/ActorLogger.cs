using Microsoft.Extensions.Logging;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// What the library itself says: its fence, by the event's number, is a fact of the history; all else helps to understand one.
internal sealed class ActorLogger(ActorLog log) : ILoggerProvider
{
    private const int FencedEvent = 9;

    public ILogger CreateLogger(string categoryName) => new Writer(log);

    public void Dispose()
    {
    }

    private sealed class Writer(ActorLog log) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (!IsEnabled(logLevel))
                return;
            if (eventId.Id == FencedEvent && state is IEnumerable<KeyValuePair<string, object?>> values
                && values.FirstOrDefault(each => each.Key == "JobId").Value is Guid job)
            {
                log.Write(Word.Fenced, job);
            }
            else
            {
                log.Write(Word.Failure, Guid.Empty, note: $"{formatter(state, exception)} {exception?.GetType().Name}: {exception?.Message}");
            }
        }
    }
}
