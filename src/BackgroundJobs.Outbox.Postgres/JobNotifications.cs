using Microsoft.Extensions.Logging;
using Npgsql;

namespace BackgroundJobs.Outbox.Postgres;

// Hints from other processes, by LISTEN on a direct connection of its own. Each (re)connect also raises Connected: what was sent while
// nobody listened is gone.
internal sealed partial class JobNotifications(NpgsqlDataSource direct, JobQueue queue, TimeProvider time, ILogger logger)
{
    public event Action<JobHint>? Hinted;

    public event Action? CancelRequested;

    public event Action? Connected;

    private readonly Lock gate = new();
    private CancellationTokenSource? listening;

    // The server that answers by now may be another than the one listened to.
    public void Reconnect()
    {
        direct.Clear();
        lock (gate)
            listening?.Cancel();
    }

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            using var until = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            lock (gate)
                listening = until;
            try
            {
                await using var connection = await direct.OpenConnectionAsync(until.Token).ConfigureAwait(false);
                connection.Notification += (_, notification) => Take(notification.Payload);
                await using (var listen = queue.Sql("listen").Command(connection))
                    await listen.ExecuteNonQueryAsync(until.Token).ConfigureAwait(false);
                Connected?.Invoke();
                while (true)
                    await connection.WaitAsync(until.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (until.IsCancellationRequested)
            {
                // It ends, or listens anew.
            }
#pragma warning disable CA1031 // Whatever it is, polling goes on meanwhile, and listening is worth another try.
            catch (Exception e)
#pragma warning restore CA1031
            {
                LogLost(e);
                await Task.Delay(TimeSpan.FromSeconds(1 + Random.Shared.NextDouble()), time, cancellationToken)
                    .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            finally
            {
                lock (gate)
                    listening = null;
            }
        }
    }

    private void Take(string payload)
    {
        if (payload == JobQueue.CancelPayload)
            CancelRequested?.Invoke();
        else if (JobHint.TryParse(payload, out var hint))
            Hinted?.Invoke(hint);
    }

    [LoggerMessage(EventId = 20, Level = LogLevel.Warning, Message = "Not listening for new jobs: the connection was lost. Jobs are found by polling until it is back.")]
    private partial void LogLost(Exception exception);
}
