using BackgroundJobs.Outbox;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace ServerBoot;

internal sealed record BootServer(long ServerId) : IJob
{
    public static string Kind => "boot_server";
}

internal sealed class BootServerHandler(BootDb db, NpgsqlDataSource connections, WorkerSettings settings, TimeProvider clock) : IJobHandler<BootServer>
{
    public async Task HandleAsync(BootServer job, JobContext context, CancellationToken cancellationToken)
    {
        await NoteAsync(
            "INSERT INTO attempts (job_id, server_id, attempt, worker_pid) VALUES ($1, $2, $3, $4)",
            [context.JobId, job.ServerId, context.Attempt, Environment.ProcessId],
            cancellationToken);

        var server = await db.Servers.SingleOrDefaultAsync(each => each.Id == job.ServerId, cancellationToken);
        if (server is null)
        {
            await NoteAsync("INSERT INTO not_found (job_id, server_id) VALUES ($1, $2)", [context.JobId, job.ServerId], cancellationToken);
            return;
        }

        // The boot itself. Seeded by the server, so that it takes as long in every run and on every worker.
        var milliseconds = new Random(unchecked((settings.Seed * 397) + (int)job.ServerId)).Next(20, 61);
        await Task.Delay(TimeSpan.FromMilliseconds(milliseconds), clock, cancellationToken);

        server.BootedAt = clock.GetUtcNow().UtcDateTime;
        db.Boots.Add(new Boot { ServerId = server.Id, JobId = context.JobId, Attempt = context.Attempt, WorkerPid = Environment.ProcessId });

        // The boot and the end of the job are one COMMIT: killed before it, all runs again; after it, nothing does.
        context.CompleteWith(db);
        await db.SaveChangesAsync(cancellationToken);
    }

    private async Task NoteAsync(string sql, object[] values, CancellationToken cancellationToken)
    {
        await using var command = connections.CreateCommand(sql);
        foreach (var value in values)
            command.Parameters.AddWithValue(value);
        await command.ExecuteNonQueryAsync(cancellationToken);
    }
}
