using Npgsql;
using static BackgroundJobs.Outbox.Postgres.SqlCommands;

namespace BackgroundJobs.Outbox.Postgres;

// Who waits in this process for the end of jobs and workflows. However many they are, one statement at a time asks for all of them whose turn it
// is: soon after they began, and then less and less often, so that long waits cost next to nothing.
internal sealed class JobWaits(NpgsqlDataSource dataSource, OutboxOptions options)
{
    private static readonly TimeSpan Shortest = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(1);

    private readonly Lock gate = new();
    private readonly List<Wait> waits = [];
    private TaskCompletionSource added = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool isAsking;

    public async Task<EndedJob> ForAsync(Guid id, bool isWorkflow, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var wait = new Wait(id, isWorkflow, options.TimeProvider.GetTimestamp());
        lock (gate)
        {
            waits.Add(wait);
            added.TrySetResult();
            if (!isAsking)
            {
                isAsking = true;
                _ = Task.Run(AskAsync, CancellationToken.None);
            }
        }

        try
        {
            return await wait.Ended.Task.WaitAsync(timeout, options.TimeProvider, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException(
                $"{(isWorkflow ? "Workflow" : "Job")} {id} has not ended within {timeout}. It goes on all the same; wait again, or ask JobInspector where it is.");
        }
        finally
        {
            lock (gate)
                waits.Remove(wait);
        }
    }

    private async Task AskAsync()
    {
        while (true)
        {
            TimeSpan pause;
            Task another;
            lock (gate)
            {
                if (waits.Count == 0)
                {
                    isAsking = false;
                    return;
                }

                pause = waits.Min(UntilNext);
                if (added.Task.IsCompleted)
                    added = new(TaskCreationOptions.RunContinuationsAsynchronously);
                another = added.Task;
            }

            if (pause > TimeSpan.Zero)
                await Task.WhenAny(Task.Delay(pause, options.TimeProvider), another).ConfigureAwait(false);
            List<Wait> due;
            lock (gate)
                due = waits.FindAll(wait => UntilNext(wait) < Shortest / 2);
            if (due.Count > 0)
                await AskOnceAsync(due).ConfigureAwait(false);
        }
    }

    private async Task AskOnceAsync(List<Wait> due)
    {
        try
        {
            await using var connection = await dataSource.OpenConnectionAsync().ConfigureAwait(false);
            await using var list = JobQueue.Sql("list_ended", options).Command(
                connection,
                ("ids", Value(due.Where(each => !each.IsWorkflow).Select(each => each.Id).Distinct().ToArray())),
                ("workflows", Value(due.Where(each => each.IsWorkflow).Select(each => each.Id).Distinct().ToArray())));
            await options.AtAsync("wait").ConfigureAwait(false);
            await using var reader = await list.ExecuteReaderAsync().ConfigureAwait(false);
            while (await reader.ReadAsync().ConfigureAwait(false))
            {
                var ended = JobQueue.ReadEnded(reader, 1, options);
                foreach (var wait in due.Where(each => each.IsWorkflow == reader.GetBoolean(0) && each.Id == ended.Id))
                    wait.Ended.TrySetResult(ended);
            }
        }
        catch (NpgsqlException e) when (e.IsTransient)
        {
            // The database is away: who waits has a timeout of his own.
        }
#pragma warning disable CA1031 // Whatever it is: those who wait hear of it, and not the finalizer.
        catch (Exception e)
#pragma warning restore CA1031
        {
            var clear = e is PostgresException postgres ? OutboxErrors.Translate(postgres, options.Schema) : null;
            foreach (var wait in due)
                wait.Ended.TrySetException(clear ?? e);
        }

        var now = options.TimeProvider.GetTimestamp();
        foreach (var wait in due)
            wait.AskedAt = now;
    }

    private TimeSpan UntilNext(Wait wait)
    {
        var interval = (options.TimeProvider.GetElapsedTime(wait.Began, wait.AskedAt) / 4) + Shortest;
        return (interval < Longest ? interval : Longest) - options.TimeProvider.GetElapsedTime(wait.AskedAt);
    }

    private sealed class Wait(Guid id, bool isWorkflow, long now)
    {
        public Guid Id => id;

        public bool IsWorkflow => isWorkflow;

        public long Began { get; } = now;

        public long AskedAt { get; set; } = now;

        public TaskCompletionSource<EndedJob> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
