using System.Diagnostics;
using BackgroundJobs.Outbox;
using BackgroundJobs.Outbox.Postgres;
using BackgroundJobs.Outbox.TestWorker;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;

// A worker as a process of its own, for tests that kill, freeze and stop one. Its handlers write what they do into the table "runs".
//   arguments: "save-half" (see HalfSaved), or concurrency, shutdown timeout in ms, lease in ms; the connection string comes in OUTBOX_TEST_CONNECTION.
var connectionString = Environment.GetEnvironmentVariable("OUTBOX_TEST_CONNECTION")!;
if (args is ["save-half"])
{
    await HalfSaved.RunAsync(connectionString);
    return;
}

await using var runs = NpgsqlDataSource.Create(connectionString);

var builder = Host.CreateApplicationBuilder();
builder.Logging.SetMinimumLevel(LogLevel.Information);
builder.Services.AddOutbox(outbox => outbox
    .Handle<SlowJob>(async (job, context, token) =>
    {
        await StartAsync(context, job.Number);
        await Task.Delay(TimeSpan.FromMilliseconds(job.Milliseconds), TimeProvider.System, token);
        await WriteAsync("end", context, job.Number);
    })
    .Handle<EffectJob>(async (job, context, token) =>
    {
        await StartAsync(context, job.Number);
        await using var connection = await runs.OpenConnectionAsync(token);
        await using var transaction = await connection.BeginTransactionAsync(token);
        await using (var effect = new NpgsqlCommand("INSERT INTO effects (number, attempt) VALUES ($1, $2)", connection, transaction)
        {
            Parameters = { new() { Value = job.Number }, new() { Value = context.Attempt } },
        })
        {
            await effect.ExecuteNonQueryAsync(token);
        }

        // A zombie does not hear its token.
        await Task.Delay(TimeSpan.FromMilliseconds(job.Milliseconds), TimeProvider.System, CancellationToken.None);
        await context.CompleteAsync(transaction, CancellationToken.None);
        await transaction.CommitAsync(CancellationToken.None);
    })
    .Handle<CrashJob>(async (job, context, _) =>
    {
        await StartAsync(context, job.Number);
        Process.GetCurrentProcess().Kill();
        await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, CancellationToken.None);
    })
    .Handle<HogJob>(async (job, context, _) =>
    {
        await StartAsync(context, job.Number);
        for (List<byte[]> taken = []; ;)
            taken.Add(GC.AllocateUninitializedArray<byte>(1 << 20));
    })
    .Handle<SteppingJob>(async (job, context, _) =>
    {
        await StartAsync(context, context.Cursor<int>());
        for (var step = context.Cursor<int>() + 1; step <= job.Steps; step++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(job.MillisecondsEach), TimeProvider.System, CancellationToken.None);
            await WriteAsync("step", context, step);
            context.SafeExitPoint(step);
        }
    })
    .Handle<DeafJob>(async (job, context, _) =>
    {
        await StartAsync(context, 0);
        await Task.Delay(TimeSpan.FromMilliseconds(job.Milliseconds), TimeProvider.System, CancellationToken.None);
        await WriteAsync("end", context, 0);
    }));
builder.Services.AddOutboxWorker(worker =>
{
    worker.ConnectionString = connectionString;
    worker.Queue("default", int.Parse(args[0], null));
    worker.ShutdownTimeout = TimeSpan.FromMilliseconds(int.Parse(args[1], null));
    worker.Lease = TimeSpan.FromMilliseconds(int.Parse(args[2], null));
    worker.HeartbeatInterval = worker.Lease / 3;
});
await builder.Build().RunAsync();

Task StartAsync(JobContext context, int number) => WriteAsync("start", context, number);

async Task WriteAsync(string what, JobContext context, int number)
{
    await using var command = runs.CreateCommand("INSERT INTO runs (what, job_id, attempt, number, process_id) VALUES ($1, $2, $3, $4, $5)");
    command.Parameters.Add(new() { Value = what });
    command.Parameters.Add(new() { Value = context.JobId });
    command.Parameters.Add(new() { Value = context.Attempt });
    command.Parameters.Add(new() { Value = number });
    command.Parameters.Add(new() { Value = Environment.ProcessId });
    await command.ExecuteNonQueryAsync();
}
