using BackgroundJobs.Outbox.Postgres;
using Npgsql;

namespace BackgroundJobs.Outbox.Chaos.Actors;

// What people do meanwhile: cancel, retry, pause and resume, run a schedule now.
internal sealed class Operator(NpgsqlDataSource connections, ActorLog log, int seed)
{
    private readonly Random random = new(seed);
    private readonly JobAdmin admin = new(connections);

    public async Task OneAsync()
    {
        try
        {
            switch (random.Next(15))
            {
                case < 4:
                    await CancelAsync();
                    break;
                case < 7:
                    await RetryAsync();
                    break;
                case 7:
                    await admin.RunScheduleAsync("chaos");
                    break;
                case < 11:
                    DateTimeOffset? until = random.Next(4) == 0 ? null : TimeProvider.System.GetUtcNow() + TimeSpan.FromSeconds(2);
                    await admin.PauseGroupAsync(AnyGroupQueue(), AnyGroup(), until, "chaos");
                    break;
                case < 14:
                    await ResumeGroupAsync(admin, log, AnyGroupQueue(), AnyGroup(), CancellationToken.None);
                    break;
                default:
                    await admin.PauseQueueAsync("default", "chaos");
                    await admin.ResumeQueueAsync("default");
                    break;
            }
        }
        catch (Exception e) when (e is NpgsqlException or InvalidOperationException or OutboxException or TimeoutException or IOException)
        {
            log.Write(Word.Failure, Guid.Empty, note: $"operator: {e.GetType().Name}: {e.Message}");
        }
    }

    // Told before and after: this may pass a dead job over, at a moment between.
    public static async Task ResumeGroupAsync(JobAdmin admin, ActorLog log, string queue, string group, CancellationToken cancellationToken)
    {
        log.Write(Word.Resume, Guid.Empty, note: $"{queue} {group}");
        await admin.ResumeGroupAsync(queue, group, cancellationToken);
        log.Write(Word.Resumed, Guid.Empty, note: $"{queue} {group}");
    }

    private async Task CancelAsync()
    {
        if (await OneOfAsync("SELECT id FROM outbox.jobs WHERE cancel_requested_at IS NULL ORDER BY random() LIMIT 1") is { } job)
            log.Write(Word.Cancel, job, note: $"{await admin.CancelAsync(job, "chaos")}");
    }

    private async Task RetryAsync()
    {
        if (await OneOfAsync("SELECT id FROM outbox.job_history WHERE state <> 'completed' ORDER BY random() LIMIT 1") is { } job)
            log.Write(Word.Retry, job, note: $"{await admin.RetryAsync(job)}");
    }

    private string AnyGroupQueue() => GroupQueues.All.Keys.ElementAt(random.Next(GroupQueues.All.Count));

    private string AnyGroup() => $"group {random.Next(GroupQueues.Groups)}";

    private async Task<Guid?> OneOfAsync(string sql)
    {
        await using var command = connections.CreateCommand(sql);
        return (Guid?)await command.ExecuteScalarAsync();
    }
}
